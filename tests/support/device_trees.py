"""Small trees like the file systems of two Jetsons, and what phones print: nobody's recording, each fact from a source.

Orin Nano, JetPack 6.2. Release, device tree and the tegrastats line: a course's lab notes of a "Developer Kit Super"
("# R36 (release), REVISION: 4.3, GCID: 38968081", "nvidia,p3768-0000+p3767-0005-super"). Modes 15W=0, 25W=1,
MAXN_SUPER=2, 7W=3 and "pmode:0002": several projects that read the same two files on the same kit. Labels and order of
the INA3221's channels: Linux' arch/arm64/boot/dts/nvidia/tegra234-p3767.dtsi. Channels 4 to 7: Linux'
Documentation/hwmon/ina3221.rst. Clocks, VDD_IN's 5.02 V and 1.6 to 2.4 A, hwmon3 "soctherm_oc" with oc1 to oc3, min and
max that jetson_clocks makes equal under governor schedutil: an audit of a robot with that kit, and NVIDIA's driver
tegra23x-oc-event.c. cv0-thermal that cannot be read: the same. rpm and pwm1: two monitors' tests.

Thor, JetPack 7.0. Release, model, compatible: Linux' tegra264-p4071-0000+p3834-0008.dts and captures of the developer
kit. Modes MAXN=0, 120W=1, 90W=2, 70W=3, where 120W is the default: a robot maker's tests. gpu-gpc-0, gpu-nvd-0 and
bwmgr under devfreq: jetson_stats (pull requests 738 and 825). Rails, tegrastats, alerts "*-throttle-alert", zones
soc012 and soc345, gpu-thermal that cannot be read while the GPU is off: a fan controller for it and captures at R39.
INA238 with `label` and `power1_input` in microwatts: a monitor for Thor, Linux' Documentation/hwmon/ina238.rst.

AGX Orin, JetPack 7.2: jetson_stats' test of tegrastats ("VDD_GPU_SOC 5139mW/5139mW/5139mW"); its two INA3221 with
channels "NC": its emulator of tegrastats.

Phones: what AOSP's dumpInternal of BatteryService and dump of ThermalManagerService print; values and names that people
showed of a Pixel 8 Pro (properties, VIRTUAL-SKIN), a Galaxy (-99.9 for a sensor that is off, types that are not AOSP's)
and a Pixel 6 (its three kinds of cores: 1803, 2253 and 2802 MHz).
"""

from __future__ import annotations

from pathlib import Path

HWMON = "sys/class/hwmon"
THERMAL = "sys/class/thermal"
CPUFREQ = "sys/devices/system/cpu/cpufreq"
GPU = "sys/class/devfreq/17000000.gpu"

ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed "
    "Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
    "etc/nvpmodel.conf": "# < POWER_MODEL ID=9 NAME=COMMENT >\n< PARAM TYPE=CLOCK NAME=GPU >\n"
    "MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq/17000000.gpu/max_freq\n"
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\nGPU MAX_FREQ 612000000\nEMC MAX_FREQ 2133000000\n"
    "< POWER_MODEL ID=1 NAME=25W >\nGPU MAX_FREQ 918000000\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nGPU MAX_FREQ -1\n"
    "< POWER_MODEL ID=3 NAME=7W >\nGPU MAX_FREQ 408000000\n< PM_CONFIG DEFAULT=1 >\n< FAN_CONFIG DEFAULT=quiet >\n",
    "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet\n",
    f"{CPUFREQ}/policy0/scaling_cur_freq": "1510400\n",
    f"{CPUFREQ}/policy0/scaling_min_freq": "729600\n",
    f"{CPUFREQ}/policy0/scaling_max_freq": "1510400\n",
    f"{CPUFREQ}/policy4/scaling_cur_freq": "729600\n",
    f"{CPUFREQ}/policy4/scaling_min_freq": "729600\n",
    f"{CPUFREQ}/policy4/scaling_max_freq": "1510400\n",
    f"{GPU}/cur_freq": "612000000\n",
    f"{GPU}/min_freq": "306000000\n",
    f"{GPU}/max_freq": "612000000\n",
    f"{GPU}/governor": "nvhost_podgov\n",
    f"{HWMON}/hwmon0/name": "pwmfan\n",
    f"{HWMON}/hwmon0/pwm1": "51\n",
    f"{HWMON}/hwmon1/name": "ina3221\n",
    f"{HWMON}/hwmon1/in1_label": "VDD_IN\n",
    f"{HWMON}/hwmon1/in1_input": "5016\n",
    f"{HWMON}/hwmon1/curr1_input": "1816\n",
    f"{HWMON}/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    f"{HWMON}/hwmon1/in2_input": "5008\n",
    f"{HWMON}/hwmon1/curr2_input": "440\n",
    f"{HWMON}/hwmon1/in3_label": "VDD_SOC\n",
    f"{HWMON}/hwmon1/in3_input": "5008\n",
    f"{HWMON}/hwmon1/curr3_input": "488\n",
    f"{HWMON}/hwmon1/in4_input": "9080\n",
    f"{HWMON}/hwmon1/curr4_input": "2744\n",
    f"{HWMON}/hwmon1/in7_label": "sum of shunt voltages\n",
    f"{HWMON}/hwmon1/in7_input": "13720\n",
    f"{HWMON}/hwmon2/name": "pwm_tach\n",
    f"{HWMON}/hwmon2/rpm": "1741\n",
    f"{HWMON}/hwmon3/name": "soctherm_oc\n",
    f"{HWMON}/hwmon3/oc1_event_cnt": "0\n",
    f"{HWMON}/hwmon3/oc1_throt_en": "1\n",
    f"{HWMON}/hwmon3/oc2_event_cnt": "0\n",
    f"{HWMON}/hwmon3/oc3_event_cnt": "27390\n",
    f"{THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{THERMAL}/thermal_zone0/temp": "47687\n",
    f"{THERMAL}/thermal_zone1/type": "gpu-thermal\n",
    f"{THERMAL}/thermal_zone1/temp": "48625\n",
    f"{THERMAL}/thermal_zone2/type": "cv0-thermal\n",
    f"{THERMAL}/thermal_zone5/type": "soc0-thermal\n",
    f"{THERMAL}/thermal_zone5/temp": "47468\n",
    f"{THERMAL}/thermal_zone8/type": "tj-thermal\n",
    f"{THERMAL}/thermal_zone8/temp": "48625\n",
    f"{THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{THERMAL}/cooling_device0/cur_state": "1\n",
    f"{THERMAL}/cooling_device1/type": "cpu-throttle-alert\n",
    f"{THERMAL}/cooling_device1/cur_state": "0\n",
}
THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.2, GCID: 42205042, BOARD: generic, EABI: aarch64, DATE: Thu "
    "Sep 25 22:47:11 UTC 2025\n# KERNEL_VARIANT: oot\nINSTALL_TYPE=\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n"
    "< POWER_MODEL ID=2 NAME=90W >\n< POWER_MODEL ID=3 NAME=70W >\n< PM_CONFIG DEFAULT=1 >\n",
    f"{CPUFREQ}/policy0/scaling_cur_freq": "2601000\n",
    f"{CPUFREQ}/policy0/scaling_min_freq": "2601000\n",
    f"{CPUFREQ}/policy0/scaling_max_freq": "2601000\n",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
    "sys/class/devfreq/gpu-gpc-0/min_freq": "1575000000\n",
    "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000\n",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000\n",
    "sys/class/devfreq/gpu-nvd-0/min_freq": "315000000\n",
    "sys/class/devfreq/gpu-nvd-0/max_freq": "1692000000\n",
    "sys/class/devfreq/bwmgr/cur_freq": "4266000000\n",
    f"{HWMON}/hwmon3/name": "ina3221\n",
    f"{HWMON}/hwmon3/in1_label": "VDD_GPU\n",
    f"{HWMON}/hwmon3/in1_input": "19616\n",
    f"{HWMON}/hwmon3/curr1_input": "1934\n",
    f"{HWMON}/hwmon3/in2_label": "VDD_CPU_SOC_MSS\n",
    f"{HWMON}/hwmon3/in2_input": "19632\n",
    f"{HWMON}/hwmon3/curr2_input": "1531\n",
    f"{HWMON}/hwmon3/in3_label": "VIN_SYS_5V0\n",
    f"{HWMON}/hwmon3/in3_input": "5000\n",
    f"{HWMON}/hwmon3/curr3_input": "3097\n",
    f"{HWMON}/hwmon4/name": "ina238\n",
    f"{HWMON}/hwmon4/label": "VIN\n",
    f"{HWMON}/hwmon4/in0_input": "5\n",
    f"{HWMON}/hwmon4/in1_input": "19800\n",
    f"{HWMON}/hwmon4/curr1_input": "6287\n",
    f"{HWMON}/hwmon4/power1_input": "124486000\n",
    f"{HWMON}/hwmon5/name": "soctherm_oc\n",
    f"{HWMON}/hwmon5/oc1_event_cnt": "0\n",
    f"{HWMON}/hwmon5/oc2_event_cnt": "0\n",
    f"{HWMON}/hwmon5/oc3_event_cnt": "179\n",
    f"{THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{THERMAL}/thermal_zone0/temp": "58250\n",
    f"{THERMAL}/thermal_zone1/type": "tj-thermal\n",
    f"{THERMAL}/thermal_zone1/temp": "66625\n",
    f"{THERMAL}/thermal_zone2/type": "soc012-thermal\n",
    f"{THERMAL}/thermal_zone2/temp": "55375\n",
    f"{THERMAL}/thermal_zone3/type": "gpu-thermal\n",
    f"{THERMAL}/cooling_device2/type": "gpu-throttle-alert\n",
    f"{THERMAL}/cooling_device2/cur_state": "1\n",
    "sys/devices/platform/gpu-throttle-alert/thermal_trip_event": "12\n",
}
TEGRASTATS_ORIN_NANO = (
    "09-17-2026 02:10:16 RAM 1483/7620MB (lfb 105x4MB) SWAP 253/12002MB (cached 2MB) "
    "CPU [0%@729,0%@729,off,0%@729,12%@1036,0%@1036] GR3D_FREQ 62%@612 cpu@47.75C soc2@46.718C gpu@50C tj@50C "
    "cv0@-256C VDD_IN 4541mW/4654mW VDD_CPU_GPU_CV 521mW/560mW VDD_SOC 1446mW/1473mW"
)
TEGRASTATS_AGX_ORIN = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 12%@[1300,1300] NVENC0 off VIC off PVA0_FREQ off APE 174 cpu@52.968C/52.968C gpu@47.625C/47.625C "
    "VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW "
    "NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
TEGRASTATS_THOR = (
    "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off,7%@2601] EMC_FREQ 34%@4266 "
    "GR3D_FREQ 87%@[1574,1574,1574] NVENC0_FREQ @1691 VIC off cpu@58.25C/61.75C tj@66.625C/66.625C "
    "soc012@55.375C/58.781C VDD_GPU 37939mW/8660mW/37939mW VDD_CPU_SOC_MSS 30059mW/12281mW/30059mW "
    "VIN_SYS_5V0 15486mW/7424mW/15486mW VIN 124486mW/36487mW/124486mW FUTURE_TOKEN value"
)
TEGRASTATS_THOR_IDLE = (
    "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 "
    "GR3D_FREQ @[1574,1574,1574] cpu@49.75C/49.75C VDD_GPU -392mW/-392mW/0mW VIN 28906mW/14453mW/28906mW"
)

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 2
  health: 2
  present: true
  level: 76
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
  Charging state: 0
[EventLogBuffer]
08-11 18:34:14.721  Sending ACTION_BATTERY_CHANGED: level:72, health:2, voltage:4120, temperature:345
  level: 12
"""
THERMAL_SERVICE = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 1
\tkilled: false
\tbroadcasts count: -1
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=BIG, mStatus=3}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
\tTemperature{mValue=49.071, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=48.937, mType=1, mName=G3D, mStatus=0}
\tTemperature{mValue=31.25, mType=3, mName=VIRTUAL-SKIN, mStatus=2}
\tTemperature{mValue=-99.9, mType=5, mName=TYPE_POWER_AMPLIFIER, mStatus=0}
\tTemperature{mValue=0.0, mType=2, mName=second battery, mStatus=0}
\tTemperature{mValue=42.0, mType=6, mName=vbat, mStatus=0}
\tTemperature{mValue=NaN, mType=0, mName=MID, mStatus=0}
\tTemperature{mValue=33.5, mType=10, mName=TPU, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-2}
\tTemperature{mValue=88.0, mType=0, mName=later, mStatus=3}
"""
PROPERTIES = """[persist.sys.locale]: []
[ro.board.platform]: [zuma]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8 Pro]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [Tensor G3]
[a.list]: [one
two]
"""
KINDS = {**dict.fromkeys(range(4), 1803000), **dict.fromkeys((4, 5), 2253000), **dict.fromkeys((6, 7), 2802000)}
CPUS = "".join(
    f"/sys/devices/system/cpu/cpu{core}/cpufreq/{name}:{value}\n"
    for core, most in KINDS.items()
    for name, value in (("cpuinfo_max_freq", most), ("scaling_cur_freq", most // 2))
)


def make_tree(root: Path, files: dict[str, str]) -> Path:
    """The tree, in a folder that is there."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def jetson_clocks(files: dict[str, str]) -> dict[str, str]:
    """The tree after that tool: the least of every clock is its most."""
    most = {name.replace("max_freq", "min_freq"): text for name, text in files.items() if name.endswith("max_freq")}
    return {**files, **most}
