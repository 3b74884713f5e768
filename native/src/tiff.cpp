// TIFF by libtiff, of the kinds that cameras write: grey or RGB of 8 or 16 bits, without loss.
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "decoding.h"
#include "errors.h"
#include "orientation.h"

namespace vqi {

namespace {

// More than any table or strip of a photograph takes that is read here row by row.
constexpr tmsize_t LARGEST_ALLOCATION = 512 << 20;

struct Source {
    Bytes bytes;
    uint64_t at = 0;
    char message[300] = "no memory";
    bool damaged = false;

    static Source &of(thandle_t handle) { return *static_cast<Source *>(handle); }
};

tmsize_t read_part(thandle_t handle, void *out, tmsize_t size) {
    Source &source = Source::of(handle);
    const uint64_t left = source.at < source.bytes.size ? source.bytes.size - source.at : 0;
    const auto count = std::min(left, static_cast<uint64_t>(std::max<tmsize_t>(size, 0)));
    if (count) std::memcpy(out, source.bytes.data + source.at, count);
    source.at += count;
    return static_cast<tmsize_t>(count);
}

toff_t seek(thandle_t handle, toff_t offset, int whence) {
    Source &source = Source::of(handle);
    const uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? source.at : source.bytes.size;
    return source.at = from + offset;
}

int keep_message(TIFF *, void *user, const char *, const char *format, va_list values) {
    Source &source = *static_cast<Source *>(user);
    std::vsnprintf(source.message, sizeof source.message, format, values);
    return 1;
}

// Of tags that are not known, or not in their order, which Pillow reads as well, it warns, and of damage.
int keep_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list values) {
    if (std::strncmp(format, "Unknown field", 13) == 0 || std::strstr(format, "not sorted")) return 1;
    Source::of(user).damaged = true;
    return keep_message(tiff, user, module, format, values);
}

class File {
public:
    explicit File(Source &source) {
        TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
        if (!options) return;
        TIFFOpenOptionsSetMaxSingleMemAlloc(options, LARGEST_ALLOCATION);
        TIFFOpenOptionsSetErrorHandlerExtR(options, keep_message, &source);
        TIFFOpenOptionsSetWarningHandlerExtR(options, keep_warning, &source);
        // m: not mapped; the bytes are in memory.
        tiff = TIFFClientOpenExt(
            "photograph", "rm", &source, read_part, [](thandle_t, void *, tmsize_t) -> tmsize_t { return 0; }, seek,
            [](thandle_t) { return 0; }, [](thandle_t handle) -> toff_t { return Source::of(handle).bytes.size; },
            nullptr, nullptr, options);
        TIFFOpenOptionsFree(options);
    }
    ~File() {
        if (tiff) TIFFClose(tiff);
    }
    File(const File &) = delete;

    uint16_t small(uint32_t tag, uint16_t otherwise) const {
        uint16_t value;
        return TIFFGetField(tiff, tag, &value) ? value : otherwise;
    }
    Bytes block(uint32_t tag) const {
        uint32_t count = 0;
        void *data = nullptr;
        return TIFFGetField(tiff, tag, &count, &data) && data ? Bytes{static_cast<const uint8_t *>(data), count}
                                                              : Bytes{nullptr, 0};
    }

    TIFF *tiff = nullptr;
};

// Whether every strip lies in the file, and has as many bytes as its rows where it is not packed.
bool has_strips(TIFF *tiff, uint32_t height, bool packed, uint64_t size) {
    uint32_t rows = height;
    if (TIFFGetField(tiff, TIFFTAG_ROWSPERSTRIP, &rows)) rows = std::min(rows, height);
    if (!rows || TIFFNumberOfStrips(tiff) != (height - 1) / rows + 1) return false;
    for (uint32_t strip = 0; strip < TIFFNumberOfStrips(tiff); strip++) {
        const uint64_t offset = TIFFGetStrileOffset(tiff, strip), count = TIFFGetStrileByteCount(tiff, strip);
        const uint64_t held = std::min(rows, height - strip * rows);
        if (!offset || !count || offset > size || count > size - offset) return false;
        if (!packed && count != held * TIFFScanlineSize64(tiff)) return false;
    }
    return true;
}

template <typename Value>
bool read_rows(TIFF *tiff, Plane<Value> &values) {
    for (int y = 0; y < values.height; y++)
        if (TIFFReadScanline(tiff, values.row(y), static_cast<uint32_t>(y), 0) != 1) return false;
    return true;
}

}  // namespace

Stored decode_tiff(const Bytes &bytes, const std::string &name, const Decoding &decoding) {
    Source source{bytes};
    const auto damaged = [&] {
        return BadInput(name + " cannot be decoded (" + one_line(source.message) + "); it is damaged or truncated.");
    };
    const File file(source);
    if (!file.tiff) throw damaged();
    uint32_t width = 0, height = 0;
    TIFFGetField(file.tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(file.tiff, TIFFTAG_IMAGELENGTH, &height);
    check_pixels(name, width, height, decoding);
    const uint16_t bits = file.small(TIFFTAG_BITSPERSAMPLE, 1), samples = file.small(TIFFTAG_SAMPLESPERPIXEL, 1),
                   colours = file.small(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MASK),
                   compression = file.small(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    const bool grey = colours == PHOTOMETRIC_MINISBLACK && samples == 1,
               rgb = colours == PHOTOMETRIC_RGB && samples == 3;
    const bool lossless = compression == COMPRESSION_NONE || compression == COMPRESSION_LZW ||
                          compression == COMPRESSION_PACKBITS || compression == COMPRESSION_ADOBE_DEFLATE ||
                          compression == COMPRESSION_DEFLATE;
    if ((!grey && !rgb) || (bits != 8 && bits != 16) || !lossless || TIFFIsTiled(file.tiff) ||
        file.small(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT) != SAMPLEFORMAT_UINT ||
        file.small(TIFFTAG_FILLORDER, FILLORDER_MSB2LSB) != FILLORDER_MSB2LSB ||
        (rgb && file.small(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) != PLANARCONFIG_CONTIG))
        throw BadInput(
            name +
            " is a TIFF of a kind that the native program does not read (it reads grey and RGB of 8 or 16 bits in "
            "strips, uncompressed or by LZW, deflate or PackBits); save it as PNG.");
    if (!width || !height || TIFFScanlineSize64(file.tiff) != uint64_t{width} * samples * (bits / 8) ||
        !has_strips(file.tiff, height, compression != COMPRESSION_NONE, bytes.size)) {
        if (!source.damaged)
            std::snprintf(source.message, sizeof source.message, "its strips are not those of its size");
        throw damaged();
    }

    std::vector<uint8_t> profile;
    if (const Bytes held = file.block(TIFFTAG_ICCPROFILE); held.data && decoding.profiles)
        profile.assign(held.data, held.data + held.size);
    uint16_t orientation = 0;
    if (!TIFFGetField(file.tiff, TIFFTAG_ORIENTATION, &orientation))
        if (const Bytes xmp = file.block(TIFFTAG_XMLPACKET); xmp.data) orientation = xmp_orientation(xmp).value_or(1);
    const int across = static_cast<int>(width), down = static_cast<int>(height);
    if (bits == 16) {
        Plane<uint16_t> values(across, down, samples);
        if (!read_rows(file.tiff, values) || source.damaged) throw damaged();
        return {{}, upright(std::move(values), orientation), grey, profile};
    }
    Plane<uint8_t> values(across, down, samples);
    if (!read_rows(file.tiff, values) || source.damaged) throw damaged();
    return {upright(std::move(values), orientation), {}, grey, profile};
}

}  // namespace vqi
