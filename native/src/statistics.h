// Whether a photograph can be one of a set at all (components/vqi/dataset/image_statistics.py).
#pragma once

#include <array>
#include <optional>
#include <string>

#include "geometry.h"

namespace vqi {

struct StatisticRange {
    double lowest, highest;
    std::optional<double> low, high;
};

constexpr int STATISTICS = 9;
extern const std::array<const char *, STATISTICS> STATISTIC_NAMES;

struct Plausibility {
    int64_t images = 0;
    std::array<StatisticRange, STATISTICS> ranges{};  // in the order of STATISTIC_NAMES
};

// Of what the network sees of a photograph, before it is cut, and of the original's size.
std::array<double, STATISTICS> image_statistics(const Rgb &seen, Size original);

// Why the photograph `name` is implausible, in a sentence; "" where it is not.
std::string implausible_sentence(const std::string &name, const std::array<double, STATISTICS> &values,
                                 const Plausibility &plausibility);

}  // namespace vqi
