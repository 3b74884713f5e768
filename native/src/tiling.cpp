#include <algorithm>
#include <cmath>

#include "geometry.h"

namespace vqi {

namespace {

int count_of(int size, int tile, double overlap) {
    const int step = std::max(1, tile - static_cast<int>(std::nearbyint(overlap * tile)));
    return 1 + (size - tile + step - 1) / step;
}

std::vector<int> starts_of(int size, int tile, double overlap) {
    std::vector<int> starts(count_of(size, tile, overlap));
    const int left = size - tile, steps = std::max(1, static_cast<int>(starts.size()) - 1);
    for (size_t number = 0; number < starts.size(); number++)
        starts[number] = static_cast<int>(std::nearbyint(static_cast<double>(number * left) / steps));
    return starts;
}

// What the pixels of a tile count along an axis: as numpy computes it, the distance to the edge in float32.
std::vector<float> ramp_of(const std::vector<int> &starts, int tile) {
    int longest = starts.size() < 2 ? tile : 0;
    for (size_t number = 1; number < starts.size(); number++)
        longest = std::max(longest, starts[number] - starts[number - 1]);
    const auto ramp = static_cast<float>(std::max(1, tile - longest));
    std::vector<float> weights(tile);
    for (int at = 0; at < tile; at++) {
        const float distance = std::min(at + 0.5f, tile - 1 - at + 0.5f);
        weights[at] = std::min(1.0f, distance / ramp);
    }
    return weights;
}

}  // namespace

int64_t Tiling::count(Size size, Size tile, double overlap) {
    return int64_t{count_of(size.height, tile.height, overlap)} * count_of(size.width, tile.width, overlap);
}

Tiling::Tiling(Size size, Size tile, double overlap) : size_(size), tile_(tile) {
    const std::vector<int> rows = starts_of(size.height, tile.height, overlap);
    const std::vector<int> columns = starts_of(size.width, tile.width, overlap);
    for (int top : rows)
        for (int left : columns) corners_.push_back({left, top});
    const std::vector<float> down = ramp_of(rows, tile.height), across = ramp_of(columns, tile.width);
    weight_ = Map(tile.width, tile.height);
    for (int y = 0; y < tile.height; y++)
        for (int x = 0; x < tile.width; x++) weight_.row(y)[x] = down[y] * across[x];
    total_ = Map(size.width, size.height);
    std::fill_n(total_.data.get(), total_.size(), 0.0f);
    for (const auto &[left, top] : corners_)
        for (int y = 0; y < tile.height; y++)
            for (int x = 0; x < tile.width; x++) total_.row(top + y)[left + x] += weight_.row(y)[x];
}

Rgb Tiling::cut(const Rgb &seen, size_t number) const {
    const auto [left, top] = corners_[number];
    Rgb tile(tile_.width, tile_.height, 3);
    for (int y = 0; y < tile.height; y++) std::copy_n(seen.row(top + y) + 3 * left, tile.row_size(), tile.row(y));
    return tile;
}

Map Tiling::blend(const std::vector<Map> &maps) const {
    Map whole(size_.width, size_.height);
    std::fill_n(whole.data.get(), whole.size(), 0.0f);
    for (size_t number = 0; number < maps.size(); number++) {
        const auto [left, top] = corners_[number];
        for (int y = 0; y < tile_.height; y++)
            for (int x = 0; x < tile_.width; x++)
                whole.row(top + y)[left + x] += weight_.row(y)[x] * maps[number].row(y)[x];
    }
    for (size_t at = 0; at < whole.size(); at++) whole.data[at] /= total_.data[at];
    return whole;
}

}  // namespace vqi
