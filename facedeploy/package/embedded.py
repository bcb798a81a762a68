"""Networks as C++ arrays, so that an app has no file to find."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from facedeploy.core.terms import TERMS_FILE
from facedeploy.package.model_header import quoted

_WORDS_OF_A_LINE = 10


def embedded_header(networks: int) -> str:
    """The text of embedded.hpp, beside model.hpp."""
    return f"""\
// Written by `facedeploy package --embed`: the networks of model.hpp, in its order.
#pragma once

#include <array>
#include <cstddef>

namespace facedeploy::model {{

// param: text that ends in 0. bin: `size` bytes that begin at a multiple of 4, as ncnn's load_model wants them.
struct Embedded {{
    const char* param;
    const unsigned char* bin;
    std::size_t size;
}};

std::array<Embedded, {networks}> embedded();

}}  // namespace facedeploy::model
"""


def embedded_source(networks: Sequence[tuple[str, bytes]]) -> str:
    """The text of embedded.cpp, from the .param and the .bin of each network."""
    arrays = [_network(i, param, weights) for i, (param, weights) in enumerate(networks)]
    entries = [
        f"        {{param_{i}, reinterpret_cast<const unsigned char*>(bin_{i}), {len(weights)}}},\n"
        for i, (_, weights) in enumerate(networks)
    ]
    return "".join(
        [
            "// Written by `facedeploy package --embed`.\n",
            f"// The weights below have terms of their own: {TERMS_FILE} says which.\n",
            '#include "embedded.hpp"\n\n#include <cstdint>\n\n',
            "#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__\n",
            '#error "the words below are bytes of a little-endian processor, as all phones have"\n#endif\n\n',
            "namespace facedeploy::model {\nnamespace {\n\n",
            *arrays,
            "}  // namespace\n\n",
            f"std::array<Embedded, {len(networks)}> embedded() {{\n    return {{{{\n",
            *entries,
            "    }};\n}\n\n}  // namespace facedeploy::model\n",
        ]
    )


def _network(index: int, param: str, weights: bytes) -> str:
    # Words instead of bytes: a third of the text, and the compiler aligns them.
    words = [w for (w,) in struct.iter_unpack("<I", weights + bytes(-len(weights) % 4))]
    rows = [words[i : i + _WORDS_OF_A_LINE] for i in range(0, len(words), _WORDS_OF_A_LINE)]
    lines = "".join(f"    {quoted(line)}\n" for line in param.splitlines(keepends=True))
    numbers = "".join(f"    {', '.join(f'{w:#x}' for w in row)},\n" for row in rows)
    return f"const char param_{index}[] =\n{lines}    ;\n\nconst std::uint32_t bin_{index}[] = {{\n{numbers}}};\n\n"
