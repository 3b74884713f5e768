// One part of the program at a time, for tests that compare it with Python. Arrays come and go as two int32, width and
// height, and then values; a sentence on standard error and exit code 2 where the part refuses.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "boxes.h"
#include "decoding.h"
#include "errors.h"
#include "files.h"
#include "predictor.h"
#include "resample.h"
#include "statistics.h"

namespace {

using namespace vqi;

template <typename Value>
Plane<Value> read_plane(int channels) {
    int32_t sides[2];
    if (std::fread(sides, sizeof *sides, 2, stdin) != 2) throw BadInput("no array");
    Plane<Value> plane(sides[0], sides[1], channels);
    if (std::fread(plane.data.get(), sizeof(Value), plane.size(), stdin) != plane.size())
        throw BadInput("no whole array");
    return plane;
}

template <typename Value>
void write_plane(const Plane<Value> &plane) {
    const int32_t sides[2] = {plane.width, plane.height};
    std::fwrite(sides, sizeof *sides, 2, stdout);
    std::fwrite(plane.data.get(), sizeof(Value), plane.size(), stdout);
}

Rgb decoded(const char *path, const Decoding &decoding) {
    const std::vector<uint8_t> data = read_file(path, 1 << 30);
    Profiles profiles;
    return decode({data.data(), data.size()}, path, decoding, profiles);
}

void run(const std::string &part, const std::vector<const char *> &given) {
    const auto number = [&](size_t at) { return std::atoi(given.at(at)); };
    if (part == "decode") {  // FILE WHITE MAX_PIXELS PROFILES
        write_plane(decoded(given.at(0), {number(1), number(2), number(3) != 0}));
    } else if (part == "resize") {  // WIDTH HEIGHT box|bilinear
        write_plane(resize(read_plane<uint8_t>(3), number(0), number(1),
                           std::string(given.at(2)) == "box" ? Filter::box : Filter::bilinear));
    } else if (part == "seen") {  // BUNDLE: what the network sees of a photograph
        write_plane(read_sidecar(given.at(0), "").geometry.apply(read_plane<uint8_t>(3), "it"));
    } else if (part == "statistics") {  // HEIGHT WIDTH of the original
        for (double value : image_statistics(read_plane<uint8_t>(3), {number(0), number(1)}))
            std::printf("%.17g\n", value);
    } else if (part == "invert") {  // BUNDLE HEIGHT WIDTH: a map, at the size of the original
        write_plane(read_sidecar(given.at(0), "").geometry.invert_map(read_plane<float>(1), {number(1), number(2)}));
    } else if (part == "area") {  // HEIGHT WIDTH; x,y x,y ... of each ring
        std::vector<Ring> rings;
        for (size_t at = 2; at < given.size(); at++) {
            rings.emplace_back();
            for (const char *text = given[at]; *text;) {
                char *end;
                const double x = std::strtod(text, &end), y = std::strtod(end + 1, &end);
                rings.back().push_back({x, y});
                text = *end ? end + 1 : end;
            }
        }
        write_plane(draw_area(rings, {number(0), number(1)}));
    } else if (part == "boxes") {  // DEFECT FRACTION PIXEL ("-" = none)
        const auto optional = [&](size_t at) {
            return std::strcmp(given.at(at), "-") ? std::optional(std::atof(given[at])) : std::nullopt;
        };
        const Map map = read_plane<float>(1);
        const double level = marking_level(map, number(0) != 0, optional(1), optional(2));
        std::printf("%.17g\n", level);
        for (const vqi_box &box : find_boxes(map, level))
            std::printf("%d %d %d %d %.9g\n", box.x1, box.y1, box.x2, box.y2, static_cast<double>(box.score));
    } else if (part == "map") {  // BUNDLE BACKEND FILE
        Predictor predictor(given.at(0), {given.at(1), 0, true, false});
        write_plane(predictor.predict_file(given.at(2)).map);
    } else {
        throw BadInput(part + " is not a part");
    }
}

}  // namespace

int main(int count, char **arguments) {
    try {
        run(count > 1 ? arguments[1] : "", {arguments + std::min(count, 2), arguments + count});
        return 0;
    } catch (const BadInput &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
