// BMP as Pillow reads it, of the kinds that cameras write: 8 bits by a table of colours, 24 and 32 bits, not
// compressed.
#include <cstring>

#include "decoding.h"
#include "errors.h"

namespace vqi {

namespace {

constexpr size_t FILE_HEADER = 14;

uint32_t little_endian(const uint8_t *bytes, int count) {
    uint32_t value = 0;
    for (int at = count - 1; at >= 0; at--) value = value << 8 | bytes[at];
    return value;
}

}  // namespace

Stored decode_bmp(const Bytes &bytes, const std::string &name, const Decoding &decoding) {
    const auto damaged = [&](const std::string &why) {
        return BadInput(name + " cannot be decoded (" + why + "); it is damaged or truncated.");
    };
    const auto field = [&](size_t at, int count) { return little_endian(bytes.data + at, count); };
    if (bytes.size < FILE_HEADER + 40) throw damaged("it ends in its header");
    const size_t header = field(FILE_HEADER, 4);
    const bool known = header == 40 || header == 52 || header == 56 || header == 64 || header == 108 || header == 124;
    if (known && bytes.size < FILE_HEADER + header) throw damaged("it ends in its header");
    const bool downwards = bytes.data[25] == 0xFF;
    const int64_t width = field(18, 4), height = downwards ? (int64_t{1} << 32) - field(22, 4) : field(22, 4);
    const uint32_t bits = field(28, 2), compression = field(30, 4);
    if (!known || compression || (bits != 8 && bits != 24 && bits != 32))
        throw BadInput(name +
                       " is a BMP of a kind that the native program does not read (it reads 8, 24 and 32 bits without "
                       "compression); save it as PNG.");
    check_pixels(name, width, height, decoding);
    if (!width || !height) throw damaged("it has no pixels");

    const bool table = bits == 8;
    const size_t colours = table ? (field(46, 4) ? field(46, 4) : 256) : 0, palette = FILE_HEADER + header;
    if (table && (colours < 3 || colours > 256)) throw damaged("its table of colours is not one");
    if (palette + 4 * colours > bytes.size) throw damaged("it ends in its table of colours");
    bool grey = table;
    for (size_t number = 0; number < colours; number++)
        for (size_t channel = 0; channel < 3; channel++)
            grey = grey && bytes.data[palette + 4 * number + channel] == number;
    size_t start = field(10, 4);
    if (start == palette) start += 4 * colours;
    if (start == 0) start = palette + 4 * colours;

    const size_t row = static_cast<size_t>(width) * bits / 8, stride = (row + 3) / 4 * 4;
    // What fills up the last row may be missing.
    if (start > bytes.size || stride * (height - 1) + row > bytes.size - start) throw damaged("it ends in its pixels");
    Plane<uint8_t> values(static_cast<int>(width), static_cast<int>(height), grey ? 1 : 3);
    for (int y = 0; y < height; y++) {
        const uint8_t *in = bytes.data + start + stride * y;
        uint8_t *out = values.row(downwards ? y : static_cast<int>(height) - 1 - y);
        if (grey) {
            std::memcpy(out, in, row);
            continue;
        }
        for (int x = 0; x < width; x++, in += bits / 8, out += 3) {
            if (table && *in >= colours) throw damaged("a pixel's colour is not in its table");
            const uint8_t *colour = table ? bytes.data + palette + 4 * size_t{*in} : in;
            for (int channel = 0; channel < 3; channel++) out[channel] = colour[2 - channel];
        }
    }
    return {std::move(values), {}, grey, {}};
}

}  // namespace vqi
