// Polygons as OpenCV 5 fills them with points of 2^-8 pixels (cv::fillPoly): every edge as a line of pixels between
// rounded ends, and between edges each row by the even-odd rule, from edges in 2^-16 pixels that move by whole steps of
// it a row.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "geometry.h"

namespace vqi {

namespace {

constexpr int POINT_BITS = 8, EDGE_BITS = 16;
constexpr int64_t ONE = int64_t{1} << EDGE_BITS;

struct Point {
    int64_t x, y;
};

// From row `top` up to, not with, row `bottom`; `x` at the top and its step a row, in 2^-16 pixels.
struct Edge {
    int64_t top, bottom, x, step;
};

// On which sides of the image a point lies: 1 left, 2 right, 4 above, 8 below.
int sides_of(const Point &point, const Mask &mask) {
    return (point.x < 0) + 2 * (point.x >= mask.width) + 4 * (point.y < 0) + 8 * (point.y >= mask.height);
}

// Cuts a line to the image, in whole pixels (Cohen and Sutherland); false where it misses it.
bool clip(Point &one, Point &other, const Mask &mask) {
    const auto to_row = [&](Point &moved, const Point &from, int sides) {
        const int64_t row = sides < 8 ? 0 : mask.height - 1;
        moved.x += (row - moved.y) * (from.x - moved.x) / (from.y - moved.y);
        moved.y = row;
    };
    const auto to_column = [&](Point &moved, const Point &from, int sides) {
        const int64_t column = sides == 1 ? 0 : mask.width - 1;
        moved.y += (column - moved.x) * (from.y - moved.y) / (from.x - moved.x);
        moved.x = column;
    };
    int first = sides_of(one, mask), second = sides_of(other, mask);
    if ((first & second) == 0 && (first | second) != 0) {
        if (first & 12) to_row(one, other, first), first = sides_of(one, mask) & 3;
        if (second & 12) to_row(other, one, second), second = sides_of(other, mask) & 3;
        if ((first & second) == 0 && (first | second) != 0) {
            if (first) to_column(one, other, first), first = 0;
            if (second) to_column(other, one, second), second = 0;
        }
    }
    return (first | second) == 0;
}

// Bresenham's line, from left to right.
void draw_line(Point from, Point to, Mask &mask) {
    if ((sides_of(from, mask) || sides_of(to, mask)) && !clip(from, to, mask)) return;
    if (to.x < from.x) std::swap(from, to);
    const int64_t across = to.x - from.x, down = std::abs(to.y - from.y), turn = to.y < from.y ? -1 : 1;
    const bool steep = down > across;
    const int64_t longer = std::max(across, down), shorter = std::min(across, down);
    int64_t error = longer - 2 * shorter;
    Point at = from;
    for (int64_t count = longer; count >= 0; count--) {
        mask.row(static_cast<int>(at.y))[at.x] = 1;
        const bool aside = error < 0;
        error += -2 * shorter + (aside ? 2 * longer : 0);
        if (steep || aside) at.y += turn;
        if (!steep || aside) at.x++;
    }
}

void add_edges(const Ring &ring, Mask &mask, std::vector<Edge> &edges) {
    const auto fixed = [](const std::array<double, 2> &point) {
        const auto whole = [](double value) { return std::llrint((value - 0.5) * (1 << POINT_BITS)); };
        return Point{whole(point[0]) * (1 << (EDGE_BITS - POINT_BITS)),
                     (whole(point[1]) + (1 << (POINT_BITS - 1))) >> POINT_BITS};
    };
    Point from = fixed(ring.back());
    for (const auto &corner : ring) {
        const Point to = fixed(corner);
        Point start{(from.x + ONE / 2) >> EDGE_BITS, from.y}, end{(to.x + ONE / 2) >> EDGE_BITS, to.y};
        draw_line(start, end, mask);
        // Of what reaches outside, the slope is that of the part inside.
        Point seen_from = from, seen_to = to;
        if (sides_of(start, mask) || sides_of(end, mask)) {
            clip(start, end, mask);
            if (start.y != end.y) seen_from.y = start.y, seen_to.y = end.y;
            seen_from.x = start.x * ONE, seen_to.x = end.x * ONE;
        }
        if (from.y != to.y) {
            const int64_t step = (seen_to.x - seen_from.x) / (seen_to.y - seen_from.y);
            const auto &[upper, seen] = from.y < to.y ? std::pair(from, seen_from) : std::pair(to, seen_to);
            edges.push_back({upper.y, std::max(from.y, to.y), seen.x + (upper.y - seen.y) * step, step});
        }
        from = to;
    }
}

}  // namespace

Mask draw_area(const std::vector<Ring> &rings, Size size) {
    Mask mask(size.width, size.height);
    std::fill_n(mask.data.get(), mask.size(), uint8_t{0});
    std::vector<Edge> edges;
    for (const Ring &ring : rings) add_edges(ring, mask, edges);
    std::sort(edges.begin(), edges.end(), [](const Edge &one, const Edge &other) { return one.top < other.top; });
    std::vector<Edge> active;
    size_t next = 0;
    std::vector<int64_t> crossings;
    for (int64_t y = edges.empty() ? 0 : edges.front().top; y < size.height; y++) {
        active.erase(std::remove_if(active.begin(), active.end(), [&](const Edge &edge) { return edge.bottom <= y; }),
                     active.end());
        for (; next < edges.size() && edges[next].top <= y; next++) active.push_back(edges[next]);
        if (active.empty() && next == edges.size()) break;
        if (y < 0) continue;
        crossings.clear();
        for (const Edge &edge : active) crossings.push_back(edge.x + (y - edge.top) * edge.step);
        std::sort(crossings.begin(), crossings.end());
        for (size_t pair = 0; pair + 1 < crossings.size(); pair += 2) {
            const int64_t left = std::max<int64_t>((crossings[pair] + ONE - 1) >> EDGE_BITS, 0);
            const int64_t right = std::min<int64_t>(crossings[pair + 1] >> EDGE_BITS, size.width - 1);
            for (int64_t x = left; x <= right; x++) mask.row(static_cast<int>(y))[x] = 1;
        }
    }
    return mask;
}

}  // namespace vqi
