#include "boxes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vqi {

namespace {

// Of the way from a map's median to its maximum.
constexpr double HIGHEST = 0.8;

// Of what is a number; NaN where nothing is.
float highest_of(const Map &map) {
    float highest = std::numeric_limits<float>::quiet_NaN();
    for (size_t at = 0; at < map.size(); at++)
        if (!(map.data[at] <= highest) && !std::isnan(map.data[at])) highest = map.data[at];
    return highest;
}

float median_of(const Map &map) {
    std::vector<float> values;
    values.reserve(map.size());
    for (size_t at = 0; at < map.size(); at++)
        if (!std::isnan(map.data[at])) values.push_back(map.data[at]);
    if (values.empty()) return std::numeric_limits<float>::quiet_NaN();
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2) return *middle;
    return (*std::max_element(values.begin(), middle) + *middle) / 2.0f;
}

// A region while its pixels are met: its corners, its highest value, and where the first of its blocks of 2 x 2 lies,
// which is the order OpenCV numbers regions in.
struct Region {
    vqi_box box;
    int block_row, block_column;
};

}  // namespace

double marking_level(const Map &map, bool defect, std::optional<double> fraction,
                     std::optional<double> pixel_threshold) {
    const double nothing = std::numeric_limits<double>::infinity();
    if (!fraction && !pixel_threshold) return nothing;
    const float top = highest_of(map);
    const double highest = top;
    if (fraction) return defect && highest > 0 ? *fraction * highest : nothing;
    if (!defect || top > static_cast<float>(*pixel_threshold)) return *pixel_threshold;
    const double middle = median_of(map);
    return std::min(middle + HIGHEST * (highest - middle),
                    static_cast<double>(std::nextafter(top, -std::numeric_limits<float>::infinity())));
}

std::vector<vqi_box> find_boxes(const Map &map, double level) {
    const auto least = static_cast<float>(level);
    // Runs of a row, joined with those of the row above that they touch; regions by a number that leads to another's.
    struct Run {
        int start, end;  // the last pixel lies before `end`
        size_t region;
    };
    std::vector<size_t> owner;
    std::vector<Region> regions;
    const auto root_of = [&](size_t region) {
        while (owner[region] != region) region = owner[region] = owner[owner[region]];
        return region;
    };
    std::vector<Run> above, here;
    for (int y = 0; y < map.height; y++) {
        const float *row = map.row(y);
        here.clear();
        size_t first = 0;
        for (int x = 0; x < map.width; x++) {
            if (!(row[x] > least)) continue;
            Run run{x, x, regions.size()};
            float score = row[x];
            for (; run.end < map.width && row[run.end] > least; run.end++) score = std::max(score, row[run.end]);
            owner.push_back(run.region);
            regions.push_back({{run.start, y, run.end, y + 1, score}, y / 2, run.start / 2});
            while (first < above.size() && above[first].end < run.start) first++;
            for (size_t at = first; at < above.size() && above[at].start <= run.end; at++) {
                const size_t older = root_of(above[at].region), newer = root_of(run.region);
                if (older == newer) continue;
                owner[newer] = older;
                Region &one = regions[older];
                const Region &other = regions[newer];
                one.box = {std::min(one.box.x1, other.box.x1), std::min(one.box.y1, other.box.y1),
                           std::max(one.box.x2, other.box.x2), std::max(one.box.y2, other.box.y2),
                           std::max(one.box.score, other.box.score)};
                if (std::pair(other.block_row, other.block_column) < std::pair(one.block_row, one.block_column))
                    one.block_row = other.block_row, one.block_column = other.block_column;
            }
            here.push_back(run);
            x = run.end;
        }
        std::swap(above, here);
    }
    std::vector<Region> found;
    for (size_t region = 0; region < regions.size(); region++)
        if (owner[region] == region) found.push_back(regions[region]);
    std::sort(found.begin(), found.end(), [](const Region &one, const Region &other) {
        if (one.box.score != other.box.score) return one.box.score > other.box.score;
        return std::pair(one.block_row, one.block_column) < std::pair(other.block_row, other.block_column);
    });
    std::vector<vqi_box> boxes;
    for (const Region &region : found) boxes.push_back(region.box);
    return boxes;
}

}  // namespace vqi
