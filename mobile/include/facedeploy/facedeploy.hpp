// Everything. C++17 and its standard library, no exceptions thrown, no other dependency.
#pragma once

#include "arrays.hpp"
#include "boxes.hpp"
#include "config.hpp"
#include "crop.hpp"
#include "crop_config.hpp"
#include "crop_decode.hpp"
#include "crop_geometry.hpp"
#include "mos.hpp"
#include "network.hpp"
#include "nms.hpp"
#include "patches.hpp"
#include "preprocess.hpp"
#include "status.hpp"
