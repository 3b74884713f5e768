#include "tensors.h"

#include <cstring>

#include "errors.h"
#include "json_reader.h"

namespace vqi {

namespace {

struct Kind {
    const char *dtype, *stored;
    ov::element::Type_t type;
};

constexpr Kind KINDS[] = {{"float32", "F32", ov::element::f32}, {"float64", "F64", ov::element::f64},
                          {"int64", "I64", ov::element::i64},   {"int32", "I32", ov::element::i32},
                          {"uint8", "U8", ov::element::u8},     {"bool", "BOOL", ov::element::boolean}};

}  // namespace

std::map<std::string, ov::Tensor> read_tensors(const std::vector<uint8_t> &file,
                                               const std::vector<IndexTensor> &expected, const std::string &path) {
    const BadInput unreadable(path + " is not a readable index; export again.");
    const BadInput others(path + " does not hold the index tensors that its bundle.json names; export again.");
    uint64_t length = 0;
    if (file.size() < 8) throw unreadable;
    for (int byte = 0; byte < 8; byte++) length |= static_cast<uint64_t>(file[byte]) << (8 * byte);
    if (length > file.size() - 8) throw unreadable;
    const uint64_t start = 8 + length, held = file.size() - start;
    nlohmann::json header;
    try {
        header = nlohmann::json::parse(file.begin() + 8, file.begin() + static_cast<std::ptrdiff_t>(start));
    } catch (const nlohmann::json::exception &) {
        throw unreadable;
    }
    const JsonReader root(header, path);
    size_t count = 0;
    for (const std::string &name : root.keys()) count += name != "__metadata__";
    if (count != expected.size()) throw others;

    std::map<std::string, ov::Tensor> tensors;
    for (const IndexTensor &entry : expected) {
        const Kind *kind = nullptr;
        for (const Kind &one : KINDS)
            if (entry.dtype == one.dtype) kind = &one;
        if (!kind || !header.contains(entry.name)) throw others;
        const JsonReader stored = root[entry.name];
        if (stored["dtype"].text() != kind->stored) throw others;
        std::vector<size_t> shape;
        uint64_t bytes = ov::element::Type(kind->type).size();
        for (const JsonReader &side : stored["shape"].items()) {
            shape.push_back(static_cast<size_t>(side.whole(0, INT32_MAX)));
            // Not beyond what the file can hold, so that it never overflows.
            if (shape.back() != 0 && bytes > held / shape.back()) throw unreadable;
            bytes *= shape.back();
        }
        if (shape != entry.shape) throw others;
        const auto offsets = stored["data_offsets"].items();
        if (offsets.size() != 2) throw unreadable;
        const auto from = static_cast<uint64_t>(offsets[0].whole(0, INT64_MAX));
        const auto to = static_cast<uint64_t>(offsets[1].whole(0, INT64_MAX));
        if (from > to || to > held || to - from != bytes) throw unreadable;
        ov::Tensor tensor(kind->type, shape);
        if (bytes) std::memcpy(tensor.data(), file.data() + start + from, bytes);
        tensors.emplace(entry.name, std::move(tensor));
    }
    return tensors;
}

}  // namespace vqi
