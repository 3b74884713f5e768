#include "sidecar.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "errors.h"
#include "files.h"
#include "json_reader.h"

namespace vqi {

namespace {

using Json = nlohmann::json;

constexpr uint64_t LARGEST_SIDECAR = 256ull << 20, LARGEST_FILE = 16ull << 30;
// The formats that run here, the first that is inside by default; each is its backend's name as well.
constexpr std::array<const char *, 3> FORMATS{"openvino", "openvino-fp16", "openvino-int8"};
// components/vqi/dataset/geometry.py
constexpr int SHORTEST_SIDE = 32, LONGEST_SIDE = 4096, LONGEST_TILED = 16384, MOST_TILES = 10'000, MOST_POINTS = 10'000;

[[noreturn]] void refuse(const std::string &what) {
    throw BadInput("This bundle " + what + ", which the native program does not do; use vqi predict.");
}

Decoding read_decoding(const JsonReader &json) {
    json.only({"white_level", "max_pixels", "page", "float_black", "float_white", "profiles"});
    Decoding decoding;
    decoding.white_level = json["white_level"].whole(1, INT32_MAX);
    decoding.max_pixels = json["max_pixels"].whole(1, INT32_MAX);
    if (json.has("page") && json["page"].whole(1, INT32_MAX) > 1) refuse("reads another page than a file's first");
    for (const char *key : {"float_black", "float_white"})  // of files that are not read here
        if (json.has(key)) json[key].number();
    decoding.profiles = json.has("profiles") && json["profiles"].boolean();
    return decoding;
}

Size read_size(const JsonReader &json, int most) {
    const auto sides = json.items();
    if (sides.size() != 2) json.refuse("it must be a height and a width");
    return {static_cast<int>(sides[0].whole(SHORTEST_SIDE, most)),
            static_cast<int>(sides[1].whole(SHORTEST_SIDE, most))};
}

// "x,y x,y x,y; x,y ...", each number of at most six digits before its point and after it.
std::vector<Ring> read_area(const JsonReader &json) {
    const std::string text = json.text();
    std::vector<Ring> rings;
    size_t at = 0, points = 0;
    const auto digits = [&] {
        const size_t start = at;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9') at++;
        if (at == start || at - start > 6) json.refuse("it must be polygons x,y x,y x,y; x,y ...");
    };
    const auto number = [&] {
        const size_t start = at;
        digits();
        if (at < text.size() && text[at] == '.') at++, digits();
        return std::strtod(text.substr(start, at - start).c_str(), nullptr);
    };
    const auto skip = [&](const std::string &expected) {
        if (text.compare(at, expected.size(), expected) != 0) json.refuse("it must be polygons x,y x,y x,y; x,y ...");
        at += expected.size();
    };
    while (at < text.size()) {
        if (!rings.empty()) skip("; ");
        Ring ring;
        do {
            if (!ring.empty()) skip(" ");
            const double x = number();
            skip(",");
            ring.push_back({x, number()});
        } while (at < text.size() && text[at] != ';');
        points += ring.size();
        if (ring.size() < 3 || points > MOST_POINTS) json.refuse("its polygons have 3 points or more, 10,000 in all");
        rings.push_back(std::move(ring));
    }
    return rings;
}

Geometry read_geometry(const JsonReader &json) {
    json.only({"size", "crop", "region", "area", "tile", "overlap"});
    Geometry geometry;
    geometry.size = read_size(json["size"], LONGEST_TILED);
    const auto fits = [](const JsonReader &part, Size inner, Size outer) {
        if (inner.height > outer.height || inner.width > outer.width)
            part.refuse("it is larger than what it is cut from");
    };
    if (!json["crop"].is_null()) {
        geometry.crop = read_size(json["crop"], LONGEST_TILED);
        fits(json["crop"], *geometry.crop, geometry.size);
    }
    if (!json["region"].is_null()) {
        const auto sides = json["region"].items();
        if (sides.size() != 4) json["region"].refuse("it must be x1, y1, x2, y2");
        geometry.region.emplace();
        for (size_t side = 0; side < 4; side++)
            (*geometry.region)[side] = static_cast<int>(sides[side].whole(0, INT32_MAX));
        const auto &[x1, y1, x2, y2] = *geometry.region;
        if (x1 >= x2 || y1 >= y2) json["region"].refuse("it is empty");
    }
    if (json.has("area")) geometry.area = read_area(json["area"]);
    double overlap = 0.25;
    if (json.has("overlap")) overlap = json["overlap"].number();
    if (overlap < 0 || overlap > 0.75) json["overlap"].refuse("it must lie between 0 and 0.75");
    const Size cut = geometry.map_size();
    if (json.has("tile")) {
        const Size tile = read_size(json["tile"], LONGEST_SIDE);
        fits(json["tile"], tile, cut);
        if (Tiling::count(cut, tile, overlap) > MOST_TILES) json["tile"].refuse("it makes too many tiles");
        geometry.tiling.emplace(cut, tile, overlap);
    } else if (std::max(cut.height, cut.width) > LONGEST_SIDE) {
        json.refuse("it must have tiles");
    }
    return geometry;
}

std::vector<IndexTensor> read_index(const JsonReader &json) {
    std::vector<IndexTensor> index;
    for (const JsonReader &tensor : json.items()) {
        tensor.only({"name", "dtype", "shape"});
        IndexTensor entry{tensor["name"].text(), tensor["dtype"].text(), {}};
        for (const JsonReader &side : tensor["shape"].items())
            entry.shape.push_back(static_cast<size_t>(side.whole(0, INT32_MAX)));
        index.push_back(std::move(entry));
    }
    return index;
}

Thresholds read_thresholds(const JsonReader &json) {
    json.only({"image", "pixel", "floor"});
    return {json["image"].number(), json["pixel"].optional_number()};
}

std::optional<double> read_boxes(const JsonReader &json) {
    json.only({"rule", "fraction"});
    const std::string rule = json["rule"].text();
    const std::optional<double> fraction = json.has("fraction") ? json["fraction"].optional_number() : std::nullopt;
    if (rule != "threshold" && rule != "fraction") json["rule"].refuse("it must be threshold or fraction");
    if ((rule == "fraction") != fraction.has_value())
        json.refuse("the rule fraction has a fraction, and threshold none");
    if (fraction && (*fraction <= 0 || *fraction >= 1)) json["fraction"].refuse("it must lie between 0 and 1");
    return fraction;
}

Plausibility read_plausibility(const JsonReader &json) {
    Plausibility plausibility;
    plausibility.images = json["images"].whole(1, INT64_MAX);
    const JsonReader ranges = json["ranges"];
    if (ranges.keys().size() != STATISTICS) ranges.refuse("it must have a range of each of 9 statistics");
    for (int number = 0; number < STATISTICS; number++) {
        const JsonReader range = ranges[STATISTIC_NAMES[number]];
        range.only({"lowest", "highest", "low", "high"});
        plausibility.ranges[number] = {range["lowest"].number(), range["highest"].number(),
                                       range["low"].optional_number(), range["high"].optional_number()};
    }
    return plausibility;
}

FileEntry read_file_entry(const JsonReader &json) {
    json.only({"sha256", "bytes"});
    FileEntry entry{json["sha256"].text(), static_cast<uint64_t>(json["bytes"].whole(0, LARGEST_FILE))};
    if (entry.sha256.size() != 64 || entry.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
        json["sha256"].refuse("it must be 64 digits of a SHA-256");
    return entry;
}

// The names of the formats inside; vqi-bundle/2 always held the one.
std::vector<std::string> formats_of(const JsonReader &root, bool second) {
    return second ? std::vector<std::string>{"openvino"} : root["formats"].keys();
}

std::string choose(const std::vector<std::string> &inside, const std::string &backend, const std::string &folder) {
    const auto holds = [&](const std::string &name) {
        return std::find(inside.begin(), inside.end(), name) != inside.end();
    };
    if (!backend.empty() && std::find(FORMATS.begin(), FORMATS.end(), backend) == FORMATS.end())
        throw BadInput("The backend is '" + backend +
                       "', which the native program does not have; it has openvino, "
                       "openvino-fp16 and openvino-int8.");
    for (const std::string name : FORMATS)
        if (holds(name) && (backend.empty() || backend == name)) return name;
    std::string held;
    for (const std::string &name : inside) held += (held.empty() ? "" : ", ") + name;
    throw BadInput("The bundle " + folder + " holds nothing for " +
                   (backend.empty() ? "OpenVINO" : "the backend " + backend) + "; it holds " +
                   (held.empty() ? "nothing" : held) + ": export again with openvino in export.formats.");
}

// How the detector scored the golden photographs in the precision of a format, else in float32.
std::vector<double> read_golden_scores(const JsonReader &json, const std::string &precision) {
    json.only({"scores"});
    const JsonReader scores = json["scores"];
    std::vector<double> expected;
    for (const JsonReader &score : scores[scores.has(precision.c_str()) ? precision : "float32"].items())
        expected.push_back(score.number());
    if (expected.empty()) scores.refuse("it must hold a score of each golden photograph");
    return expected;
}

// The format's files and thresholds of its own, into `sidecar`.
void read_format(const JsonReader &root, bool second, Sidecar &sidecar) {
    const std::string &name = sidecar.backend;
    sidecar.model = name + "/model.xml";
    const JsonReader entry = second ? root : root["formats"][name];
    if (!second) {
        entry.only({"backend", "precision", "install", "tolerance", "deviations", "latency_ms", "latency_8_ms",
                    "accuracy", "own", "notes", "files"});
        if (entry["backend"].text() != name) entry["backend"].refuse("it is not that of its format");
        sidecar.tolerance = entry["tolerance"].number();
        if (entry.has("own")) {
            sidecar.thresholds = read_thresholds(entry["own"]["thresholds"]);
            sidecar.guarantee = entry["own"]["guarantee"].text();
        }
    }
    const JsonReader files = entry["files"];
    for (const std::string &file : {sidecar.model, name + "/model.bin"})
        sidecar.files[file] = read_file_entry(files[file]);
    if (!second && files.keys().size() != 2) files.refuse("it must name the format's two files");
    if (!sidecar.index.empty()) sidecar.files[INDEX] = read_file_entry(root["files"][INDEX]);
    if (!second && root.has("golden")) {
        sidecar.golden = read_golden_scores(root["golden"], entry["precision"].text());
        sidecar.files[GOLDEN] = read_file_entry(root["files"][GOLDEN]);
    }
}

Sidecar parsed(const Json &json, const std::string &path, const std::string &folder, const std::string &backend) {
    const JsonReader root(json, path);
    const std::string format =
        json.is_object() && json.contains("format") && json["format"].is_string() ? json["format"] : Json("");
    const bool second = format == "vqi-bundle/2";
    if (!second && format != "vqi-bundle/3" && format != "vqi-bundle/4")
        throw BadInput(path + " has format '" + one_line(format) +
                       "', this version reads 'vqi-bundle/4'; export again, or use "
                       "the version of vqi that made it.");
    root.only({"name",          "method", "settings",   "backbone", "weights",     "seed",         "dataset",
               "preprocessing", "graph",  "thresholds", "boxes",    "calibration", "plausibility", "metrics",
               "versions",      "format", "parity",     "formats",  "left_out",    "golden",       "files"});
    const JsonReader preprocessing = root["preprocessing"];
    preprocessing.only({"decoding", "colour", "range", "resize", "normalisation", "geometry", "alignment"});
    if (preprocessing.has("alignment")) refuse("aligns photographs (image.align)");
    preprocessing["colour"].must_be("RGB");
    preprocessing["range"].must_be({0, 1});
    preprocessing["resize"].must_be("antialiased bilinear");
    preprocessing["normalisation"].must_be("inside the graph");

    Sidecar sidecar;
    sidecar.name = root["name"].text();
    sidecar.method = root["method"].text();
    sidecar.guarantee = root["calibration"]["guarantee"].text();
    sidecar.decoding = read_decoding(preprocessing["decoding"]);
    sidecar.geometry = read_geometry(preprocessing["geometry"]);
    sidecar.thresholds = read_thresholds(root["thresholds"]);
    sidecar.box_fraction = read_boxes(root["boxes"]);
    sidecar.plausibility = read_plausibility(root["plausibility"]);
    const JsonReader graph = root["graph"];
    graph["input"].must_be("images");
    graph["outputs"].must_be({"score", "map"});
    const Size seen = sidecar.geometry.input_size();
    if (graph.has("input_shape"))
        graph["input_shape"].must_be({nullptr, 3, seen.height, seen.width});
    else
        graph["input_shape"].refuse("it must be a list");
    sidecar.index = read_index(graph["index"]);
    sidecar.backend = choose(formats_of(root, second), backend, folder);
    read_format(root, second, sidecar);
    return sidecar;
}

}  // namespace

Sidecar read_sidecar(const std::string &folder, const std::string &backend) {
    const std::string path = folder + "/bundle.json";
    std::vector<uint8_t> text;
    try {
        text = read_file(path, LARGEST_SIDECAR);
    } catch (const BadInput &) {
        throw BadInput(
            folder +
            " is not a bundle: bundle.json is missing or cannot be read; give the folder the export step wrote.");
    }
    try {
        return parsed(Json::parse(text.begin(), text.end()), path, folder, backend);
    } catch (const Json::exception &) {
        throw BadInput(path + " is not readable JSON; export again.");
    }
}

std::vector<uint8_t> read_bundle_file(const std::string &folder, const std::string &name, const FileEntry &entry) {
    std::vector<uint8_t> data;
    try {
        data = read_file(folder + "/" + name, LARGEST_FILE);
    } catch (const BadInput &) {
        throw BadInput("The bundle " + folder + " lacks its file " + name + "; copy it whole or export again.");
    }
    if (data.size() != entry.bytes || sha256_of(data) != entry.sha256)
        throw BadInput("The file " + name + " of the bundle " + folder +
                       " is not the one that was exported (its SHA-256 differs); export again.");
    return data;
}

}  // namespace vqi
