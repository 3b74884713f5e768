// PNG by libpng, whose values are read as they are stored; what they mean is Pillow's reading of them.
#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "decoding.h"
#include "errors.h"
#include "orientation.h"

namespace vqi {

namespace {

constexpr size_t LARGEST_PROFILE = 1 << 20;

std::string_view text_of(const Bytes &bytes) { return {reinterpret_cast<const char *>(bytes.data), bytes.size}; }

bool starts(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

// What stands in a PNG beside its pixels: its chunks are walked here, since libpng passes over what it finds odd.
struct Chunks {
    bool animated = false;
    std::optional<Bytes> palette, transparency, profile, exif, xmp;
    std::string refused;  // why orientation cannot be known, or the chunks contradict each other
};

void take(std::optional<Bytes> &place, const Bytes &content, Chunks &chunks, bool early) {
    if (place || !early) chunks.refused = "has its palette or its transparency twice, or behind its pixels";
    place = content;
}

Chunks walk(const Bytes &png) {
    Chunks chunks;
    bool early = true;
    for (size_t at = 8; at + 12 <= png.size;) {
        const size_t length = png_get_uint_32(png.data + at);
        const std::string_view kind = text_of({png.data + at + 4, 4});
        if (length > png.size - at - 12) break;  // truncated: libpng says so
        const Bytes content{png.data + at + 8, length};
        const std::string_view text = text_of(content);
        if (kind == "IEND") break;
        if (kind == "IDAT")
            early = false;
        else if (kind == "PLTE")
            take(chunks.palette, content, chunks, early);
        else if (kind == "tRNS")
            take(chunks.transparency, content, chunks, early);
        else if (kind == "iCCP" && early)
            chunks.profile = content;
        else if (kind == "acTL")
            chunks.animated = true;
        else if (kind == "eXIf")
            chunks.exif = content;
        else if ((kind == "tEXt" || kind == "zTXt" || kind == "iTXt") && starts(text, "Raw profile type"))
            chunks.refused = "has EXIF or XMP as text, in which the native program does not look for its orientation";
        else if (kind == "iTXt" && starts(text, std::string_view("XML:com.adobe.xmp\0", 18))) {
            if (text.size() < 20 || text[18] != 0)
                chunks.refused = "has compressed XMP, in which the native program does not look for its orientation";
            else
                chunks.xmp = content;
        } else if ((kind == "tEXt" || kind == "zTXt") && starts(text, "XML:com.adobe.xmp"))
            chunks.refused = "has XMP as text, in which the native program does not look for its orientation";
        at += 12 + length;
    }
    return chunks;
}

// libpng's state: nothing between setjmp and longjmp has a destructor.
class Decoder {
public:
    explicit Decoder(const Bytes &bytes) : bytes(bytes) {
        png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, [](png_structp, png_const_charp) {});
        info = png ? png_create_info_struct(png) : nullptr;
        if (!info || setjmp(png_jmpbuf(png))) return;
        png_set_read_fn(png, this, read_bytes);
        png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
        // Not unpacked, and not looked at: the chunks were walked.
        static const png_byte SKIPPED[] = "tEXt\0zTXt\0iTXt\0iCCP\0eXIf\0sPLT\0hIST\0pCAL\0gAMA\0cHRM\0sRGB\0bKGD\0";
        png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, SKIPPED, (sizeof SKIPPED - 1) / 5);
        png_read_info(png, info);
        good = true;
    }
    ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
    Decoder(const Decoder &) = delete;

    // One byte a value, or two with the high one first.
    bool read(png_bytepp rows) {
        if (setjmp(png_jmpbuf(png))) return false;
        png_set_packing(png);
        png_set_interlace_handling(png);
        png_read_update_info(png, info);
        png_read_image(png, rows);
        png_read_end(png, nullptr);
        return true;
    }

    png_structp png = nullptr;
    png_infop info = nullptr;
    bool good = false;
    char message[300] = "no memory";

private:
    static void fail(png_structp png, png_const_charp text) {
        auto *self = static_cast<Decoder *>(png_get_error_ptr(png));
        std::snprintf(self->message, sizeof self->message, "%s", text);
        png_longjmp(png, 1);
    }
    static void read_bytes(png_structp png, png_bytep out, size_t length) {
        auto *self = static_cast<Decoder *>(png_get_io_ptr(png));
        if (length > self->bytes.size - self->at) png_error(png, "it ends too early");
        std::memcpy(out, self->bytes.data + self->at, length);
        self->at += length;
    }

    Bytes bytes;
    size_t at = 0;
};

// The profile of its chunk: a name, a zero, the method 0, and what zlib packed; empty where it cannot be read.
std::vector<uint8_t> unpacked(const Bytes &chunk) {
    const std::string_view text = text_of(chunk);
    const size_t name = text.find('\0');
    if (name == text.npos || name + 2 > text.size() || text[name + 1] != 0) return {};
    std::vector<uint8_t> profile(LARGEST_PROFILE);
    uLongf size = profile.size();
    if (uncompress(profile.data(), &size, chunk.data + name + 2, chunk.size - name - 2) != Z_OK) return {};
    profile.resize(size);
    return profile;
}

int big_endian(const uint8_t *bytes) { return bytes[0] << 8 | bytes[1]; }

// Stored values with alpha: 0 where all channels are those of the transparent colour.
template <typename Value>
Plane<Value> with_alpha(const Plane<Value> &values, const int *key) {
    Plane<Value> result(values.width, values.height, values.channels + 1);
    const Value *in = values.data.get();
    Value *out = result.data.get();
    for (size_t count = static_cast<size_t>(values.width) * values.height; count > 0; count--) {
        bool equal = true;
        for (int channel = 0; channel < values.channels; channel++) {
            equal = equal && *in == key[channel];
            *out++ = *in++;
        }
        *out++ = equal ? 0 : static_cast<Value>(~Value{0});
    }
    return result;
}

Plane<uint8_t> of_palette(const Plane<uint8_t> &numbers, const Chunks &chunks, const std::string &name) {
    const Bytes palette = *chunks.palette, alpha = chunks.transparency.value_or(Bytes{nullptr, 0});
    Plane<uint8_t> result(numbers.width, numbers.height, chunks.transparency ? 4 : 3);
    uint8_t *out = result.data.get();
    for (size_t at = 0; at < numbers.size(); at++, out += result.channels) {
        const size_t number = numbers.data[at];
        if (3 * number + 3 > palette.size)
            throw BadInput(name +
                           " cannot be decoded (a pixel's colour is not in its palette); it is damaged or truncated.");
        std::memcpy(out, palette.data + 3 * number, 3);
        if (result.channels == 4) out[3] = number < alpha.size ? alpha.data[number] : 255;
    }
    return result;
}

}  // namespace

Stored decode_png(const Bytes &bytes, const std::string &name, const Decoding &decoding) {
    const Chunks chunks = walk(bytes);
    Decoder decoder(bytes);
    const auto damaged = [&](const std::string &why) {
        return BadInput(name + " cannot be decoded (" + one_line(why) + "); it is damaged or truncated.");
    };
    const auto refused = [&](const std::string &why) {
        return BadInput(name + " " + why + "; save it again without.");
    };
    if (!decoder.good) throw damaged(decoder.message);
    const int width = static_cast<int>(png_get_image_width(decoder.png, decoder.info));
    const int height = static_cast<int>(png_get_image_height(decoder.png, decoder.info));
    const int depth = png_get_bit_depth(decoder.png, decoder.info),
              kind = png_get_color_type(decoder.png, decoder.info);
    check_pixels(name, width, height, decoding);
    if (!chunks.refused.empty()) throw refused(chunks.refused);
    if (chunks.animated) throw refused("is an animation, which the native program does not read");
    std::vector<uint8_t> profile;
    if (chunks.profile && decoding.profiles) {
        profile = unpacked(*chunks.profile);
        if (profile.empty()) throw refused("bears a colour profile (ICC) that cannot be read");
    }

    std::optional<int> orientation;
    if (chunks.exif) orientation = exif_orientation(*chunks.exif, name);
    if (!orientation && chunks.xmp) orientation = xmp_orientation(*chunks.xmp);

    const bool indexed = kind == PNG_COLOR_TYPE_PALETTE, colours = kind & PNG_COLOR_MASK_COLOR, grey = !colours;
    const Bytes key = chunks.transparency.value_or(Bytes{nullptr, 0});
    int transparent[3] = {};
    if (chunks.transparency && !indexed) {
        if (kind & PNG_COLOR_MASK_ALPHA || key.size != (colours ? 6u : 2u))
            throw damaged("its transparent colour is not one of its kind");
        for (size_t channel = 0; channel < key.size / 2; channel++)
            transparent[channel] = big_endian(key.data + 2 * channel);
        if (depth == 8 && *std::max_element(transparent, transparent + 3) > 255)
            throw damaged("its transparent colour has more than 8 bits");
    }
    if (indexed && (!chunks.palette || chunks.palette->size % 3 || key.size > chunks.palette->size / 3))
        throw damaged("its palette is not one");

    const int channels = png_get_channels(decoder.png, decoder.info);
    const int size = depth == 16 ? 2 : 1;
    Plane<uint8_t> stored(width, height, channels * size);
    std::vector<png_bytep> rows(height);
    for (int y = 0; y < height; y++) rows[y] = stored.row(y);
    if (!decoder.read(rows.data())) throw damaged(decoder.message);

    if (depth == 16) {
        Plane<uint16_t> values(width, height, channels);
        for (size_t at = 0; at < values.size(); at++)
            values.data[at] = static_cast<uint16_t>(big_endian(&stored.data[2 * at]));
        if (chunks.transparency) values = with_alpha(values, transparent);
        return {{}, upright(std::move(values), orientation.value_or(1)), grey, profile};
    }
    if (indexed) {
        stored = of_palette(stored, chunks, name);
    } else if (depth < 8) {
        // Pillow compares the transparent colour of 2 and 4 bits with values of 8.
        const int white = (1 << depth) - 1;
        for (size_t at = 0; at < stored.size(); at++)
            stored.data[at] = static_cast<uint8_t>(stored.data[at] * (255 / white));
        if (depth == 1) transparent[0] = transparent[0] ? 255 : 0;
    }
    if (chunks.transparency && !indexed) stored = with_alpha(stored, transparent);
    return {upright(std::move(stored), orientation.value_or(1)), {}, grey, profile};
}

}  // namespace vqi
