// Region, resize, crop, area and tiles of a photograph, and the way back for its map
// (components/vqi/dataset/geometry.py).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pixels.h"

namespace vqi {

struct Size {
    int height, width;
};

using Ring = std::vector<std::array<double, 2>>;  // x, y in pixel edges

// Where tiles begin, and what they count where they overlap (components/vqi/dataset/tiling.py).
class Tiling {
public:
    Tiling(Size size, Size tile, double overlap);
    static int64_t count(Size size, Size tile, double overlap);

    const std::vector<std::array<int, 2>> &corners() const { return corners_; }  // left, top
    Size tile() const { return tile_; }
    Rgb cut(const Rgb &seen, size_t number) const;
    // One map from those of all tiles, in order.
    Map blend(const std::vector<Map> &maps) const;

private:
    Size size_, tile_;
    std::vector<std::array<int, 2>> corners_;
    Map weight_, total_;
};

struct Geometry {
    Size size{};
    std::optional<Size> crop;
    std::optional<std::array<int, 4>> region;  // x1, y1, x2, y2
    std::vector<Ring> area;
    std::optional<Tiling> tiling;

    Size map_size() const { return crop ? *crop : size; }
    Size input_size() const { return tiling ? tiling->tile() : map_size(); }

    // A photograph before it is cut into tiles. Throws BadInput where region or area reach outside of it.
    Rgb apply(const RgbView &photograph, const std::string &name) const;
    // A map of `map_size` brought to the original, NaN where the network saw nothing.
    Map invert_map(const Map &map, Size original) const;

private:
    std::array<double, 4> seen(Size original) const;
    Mask inside(Size original, const std::string &name) const;
};

// Where the centre of a pixel lies in an odd number of polygons, or on an edge: as OpenCV fills them.
Mask draw_area(const std::vector<Ring> &rings, Size size);

}  // namespace vqi
