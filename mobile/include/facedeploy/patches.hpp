// Inputs of the pose network: the features around the cell of each kept prior.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "arrays.hpp"
#include "config.hpp"

namespace facedeploy {

// patches: `count` times patch_channels x 3 x 3. level: `count` times 3, or null where the model has none.
struct Patches {
    std::size_t count = 0;
    const float* patches = nullptr;
    const float* level = nullptr;
};

// Which map, row and column a prior is of. Priors are numbered map after map, in rows of cells.
struct Cell {
    std::size_t map = 0;
    int row = 0;
    int column = 0;
};

inline Cell cell_of(const MosConfig& config, std::size_t prior) {
    std::size_t cell = prior / static_cast<std::size_t>(config.anchors);
    std::size_t map = 0;
    for (; map + 1 < MosConfig::strides.size() && cell >= config.cells(map); ++map) cell -= config.cells(map);
    const auto columns = static_cast<std::size_t>(config.columns(map));
    return {map, static_cast<int>(cell / columns), static_cast<int>(cell % columns)};
}

// Keeps its memory from call to call.
class Gatherer {
public:
    // Zero outside of the map; a channel more than the map's is 1 inside of it.
    Patches gather(const MosConfig& config, const std::array<Map, 3>& features, const std::size_t* priors,
                   std::size_t count) {
        const auto channels = static_cast<std::size_t>(config.patch_channels);
        patches_.assign(count * channels * 9, 0.0F);
        level_.assign(config.level ? count * 3 : 0, 0.0F);
        for (std::size_t i = 0; i < count; ++i) {
            const Cell cell = cell_of(config, priors[i]);
            if (config.level) level_[3 * i + cell.map] = 1.0F;
            fill(features[cell.map], cell, channels, patches_.data() + i * channels * 9);
        }
        return {count, patches_.data(), config.level ? level_.data() : nullptr};
    }

private:
    static void fill(const Map& map, const Cell& cell, std::size_t channels, float* patch) {
        for (int dy = -1; dy <= 1; ++dy) {
            for (int dx = -1; dx <= 1; ++dx, ++patch) {
                const int y = cell.row + dy;
                const int x = cell.column + dx;
                if (y < 0 || y >= map.height || x < 0 || x >= map.width) continue;
                const std::size_t at = static_cast<std::size_t>(y) * static_cast<std::size_t>(map.width) +
                                       static_cast<std::size_t>(x);
                for (std::size_t c = 0; c < channels; ++c) {
                    patch[9 * c] = c < static_cast<std::size_t>(map.channels) ? map.data[c * map.step + at] : 1.0F;
                }
            }
        }
    }

    std::vector<float> patches_;
    std::vector<float> level_;
};

}  // namespace facedeploy
