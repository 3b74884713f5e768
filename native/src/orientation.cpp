#include "orientation.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "errors.h"

namespace vqi {

namespace {

constexpr unsigned ORIENTATION = 0x0112, SHORT = 3;

}  // namespace

std::optional<int> exif_orientation(Bytes exif, const std::string &name) {
    while (exif.size >= 6 && std::memcmp(exif.data, "Exif\0\0", 6) == 0) exif.data += 6, exif.size -= 6;
    if (exif.size == 0) return std::nullopt;
    const BadInput damaged(name + " has metadata that cannot be read (EXIF); it is damaged.");
    if (exif.size < 8) throw damaged;
    const bool little = exif.data[0] == 'I';
    if (std::memcmp(exif.data, little ? "II*\0" : "MM\0*", 4) != 0) throw damaged;
    const auto number = [&](size_t at, int bytes) {
        uint32_t value = 0;
        for (int byte = 0; byte < bytes; byte++) {
            const int shift = 8 * (little ? byte : bytes - 1 - byte);
            value |= static_cast<uint32_t>(exif.data[at + byte]) << shift;
        }
        return value;
    };
    const size_t start = number(4, 4);
    if (start < 8 || start + 2 > exif.size) throw damaged;
    const size_t count = number(start, 2);
    if (start + 2 + 12 * count > exif.size) throw damaged;
    std::optional<int> orientation;
    for (size_t entry = start + 2; entry < start + 2 + 12 * count; entry += 12) {
        if (number(entry, 2) != ORIENTATION) continue;
        if (number(entry + 2, 2) != SHORT || number(entry + 4, 4) != 1)
            throw BadInput(name + " states its EXIF orientation in an unusual form; save it upright, without EXIF.");
        orientation = static_cast<int>(number(entry + 8, 2));
    }
    return orientation;
}

std::optional<int> xmp_orientation(const Bytes &xmp) {
    const std::string_view text(reinterpret_cast<const char *>(xmp.data), xmp.size), tag = "tiff:Orientation";
    for (size_t at = text.find(tag); at != text.npos; at = text.find(tag, at + 1)) {
        std::string_view rest = text.substr(at + tag.size());
        if (rest.substr(0, 2) == "=\"")
            rest.remove_prefix(2);
        else if (rest.substr(0, 1) == ">")
            rest.remove_prefix(1);
        else
            continue;
        if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
    }
    return std::nullopt;
}

template <typename Value>
Plane<Value> upright(Plane<Value> image, int orientation) {
    if (orientation < 2 || orientation > 8) return image;
    const bool turned = orientation >= 5;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    Plane<Value> result(turned ? image.height : image.width, turned ? image.width : image.height, image.channels);
    Value *out = result.data.get();
    for (int y = 0; y < result.height; y++)
        for (int x = 0; x < result.width; x++, out += image.channels) {
            const int across = turned ? y : x, down = turned ? x : y;
            const Value *in = image.row(from_bottom ? image.height - 1 - down : down) +
                              static_cast<size_t>(image.channels) * (from_right ? image.width - 1 - across : across);
            std::copy_n(in, image.channels, out);
        }
    return result;
}

template Plane<uint8_t> upright(Plane<uint8_t>, int);
template Plane<uint16_t> upright(Plane<uint16_t>, int);

}  // namespace vqi
