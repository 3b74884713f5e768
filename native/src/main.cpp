// vqi-native BUNDLE PHOTOGRAPH...: a line of JSON a photograph, as predictions.json of `vqi predict` has them.
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "vqi.h"

namespace {

using Json = nlohmann::ordered_json;

constexpr const char *USAGE =
    "usage: vqi-native [--backend NAME] [--threads N] [--implausible refuse|score] [--golden check|skip] "
    "BUNDLE PHOTOGRAPH...\n"
    "\n"
    "Predicts defects on photographs (PNG, JPEG, BMP, TIFF) with an exported bundle: a line of JSON each, on standard "
    "output.\n"
    "\n"
    "  --backend      openvino, openvino-fp16 or openvino-int8; the first of these that is inside\n"
    "  --threads      threads of the graph; 0 = OpenVINO's choice (0)\n"
    "  --implausible  a photograph that cannot be one of the set: refuse (decision implausible) or score (refuse)\n"
    "  --golden       check: score the golden photographs of the bundle first, and refuse it where the scores are not\n"
    "                 those of its export; skip (check)\n"
    "  --version      print the version\n"
    "\n"
    "Exit code: 0; 1 where the bundle could not be run; 2 where something that was given cannot be used, a photograph "
    "could\n"
    "not be read or is implausible: the others are predicted all the same; 3 where the golden photographs refused "
    "it.\n";

constexpr const char *DECISIONS[] = {"good", "defect", "implausible"};

int complain(const std::string &sentence, int status) {
    std::fprintf(stderr, "vqi-native: %s\n", sentence.c_str());
    return status;
}

// Names of files need not be UTF-8; JSON must.
void print(const Json &line) {
    std::puts(line.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    std::fflush(stdout);
}

Json line_of(const char *name, const vqi_result &result) {
    Json line{{"image", name},         {"decision", DECISIONS[result.decision]},
              {"score", result.score}, {"threshold", result.threshold},
              {"width", result.width}, {"height", result.height}};
    line["boxes"] = Json::array();
    for (size_t number = 0; number < result.box_count; number++) {
        const vqi_box &box = result.boxes[number];
        line["boxes"].push_back(
            {{"x1", box.x1}, {"y1", box.y1}, {"x2", box.x2}, {"y2", box.y2}, {"score", double{box.score}}});
    }
    line["seconds"] = result.seconds;
    if (*result.implausible) line["implausible"] = result.implausible;
    return line;
}

}  // namespace

int main(int count, char **arguments) {
    vqi_options options{};
    std::vector<const char *> given;
    for (int number = 1; number < count; number++) {
        const std::string word = arguments[number];
        const auto value = [&]() -> const char * { return number + 1 < count ? arguments[++number] : ""; };
        if (word == "--help" || word == "-h") return std::fputs(USAGE, stdout), 0;
        if (word == "--version") return std::puts(vqi_version()), 0;
        if (word == "--backend")
            options.backend = value();
        else if (word == "--threads") {
            const char *text = value();
            char *end = nullptr;
            const long threads = std::strtol(text, &end, 10);
            if (!*text || *end || threads < 0 || threads > 4096)
                return complain(std::string("--threads is '") + text + "'; it must be a whole number from 0 to 4096.",
                                2);
            options.threads = static_cast<int32_t>(threads);
        } else if (word == "--implausible") {
            const std::string text = value();
            if (text != "refuse" && text != "score")
                return complain("--implausible is '" + text + "'; it must be refuse or score.", 2);
            options.score_implausible = text == "score";
        } else if (word == "--golden") {
            const std::string text = value();
            if (text != "check" && text != "skip")
                return complain("--golden is '" + text + "'; it must be check or skip.", 2);
            options.skip_golden = text == "skip";
        } else if (word == "--") {
            given.insert(given.end(), arguments + number + 1, arguments + count);
            break;
        } else if (word.size() > 1 && word[0] == '-') {
            return complain(word + " is not an option.\n" + USAGE, 2);
        } else {
            given.push_back(arguments[number]);
        }
    }
    if (given.size() < 2)
        return complain(std::string("a bundle and at least one photograph must be given.\n") + USAGE, 2);

    vqi_bundle *bundle;
    if (const vqi_status status = vqi_open(given[0], &options, &bundle)) return complain(vqi_last_error(), status);
    int code = 0;
    for (size_t number = 1; number < given.size(); number++) {
        vqi_result *result;
        const vqi_status status = vqi_score_file(bundle, given[number], &result);
        if (status == VQI_OK) {
            print(line_of(given[number], *result));
            if (result->decision == VQI_IMPLAUSIBLE) {
                complain(result->implausible, 0);
                code = code ? code : VQI_BAD_INPUT;
            }
            vqi_free_result(result);
            continue;
        }
        const std::string sentence = vqi_last_error();
        print({{"image", given[number]}, {"error", sentence}});
        complain(sentence, 0);
        if (status == VQI_FAILED) {
            code = VQI_FAILED;
            break;
        }
        code = VQI_BAD_INPUT;
    }
    vqi_close(bundle);
    return code;
}
