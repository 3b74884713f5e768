// JPEG by libjpeg-turbo, with its defaults, which are Pillow's: the accurate integer transform and smooth upsampling.
#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
// It leaves both to its reader.
#include <jpeglib.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "decoding.h"
#include "errors.h"
#include "orientation.h"

namespace vqi {

namespace {

// A file of hundreds of scans takes minutes for each second of its transfer.
constexpr int MOST_SCANS = 500;
constexpr std::string_view EXIF("Exif\0\0", 6), ICC("ICC_PROFILE\0", 12), XMP("http://ns.adobe.com/xap/1.0/\0", 29);

// What stands in a JPEG beside its pixels, up to its first scan; as Pillow gathers it.
struct Segments {
    std::vector<uint8_t> exif, profile;
    Bytes xmp{nullptr, 0};
};

Segments walk(const Bytes &jpeg) {
    Segments segments;
    std::vector<std::string_view> parts;  // of the profile
    for (size_t at = 2; at + 4 <= jpeg.size;) {
        const uint8_t marker = jpeg.data[at + 1];
        if (jpeg.data[at] != 0xFF || marker == 0xFF || marker == 0x00) {  // between markers, or padding
            at++;
            continue;
        }
        if (marker == 0xDA || marker == 0xD9) break;
        if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) {
            at += 2;
            continue;
        }
        const size_t length = static_cast<size_t>(jpeg.data[at + 2]) << 8 | jpeg.data[at + 3];
        if (length < 2 || length > jpeg.size - at - 2) break;  // damaged: libjpeg says so
        const uint8_t *content = jpeg.data + at + 4;
        const std::string_view text(reinterpret_cast<const char *>(content), length - 2);
        const auto starts = [&](std::string_view start) { return text.substr(0, start.size()) == start; };
        if (marker == 0xE1 && starts(EXIF)) {  // a second one goes on where the first ended
            segments.exif.insert(segments.exif.end(), content + EXIF.size(), content + text.size());
        } else if (marker == 0xE1 && starts(XMP)) {
            segments.xmp = {content + XMP.size(), text.size() - XMP.size()};
        } else if (marker == 0xE2 && starts(ICC) && text.size() >= ICC.size() + 2) {
            parts.push_back(text);
        } else if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) {
            // A frame: its profile stood before it, in numbered parts.
            std::sort(parts.begin(), parts.end());
            if (!parts.empty()) segments.profile.clear();
            const bool whole = !parts.empty() && static_cast<uint8_t>(parts[0][ICC.size() + 1]) == parts.size();
            for (const std::string_view &part : parts)
                if (whole) segments.profile.insert(segments.profile.end(), part.begin() + ICC.size() + 2, part.end());
            parts.clear();
        }
        at += 2 + length;
    }
    return segments;
}

struct ErrorManager {
    jpeg_error_mgr base;
    std::jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void escape(j_common_ptr info) {
    auto *manager = reinterpret_cast<ErrorManager *>(info->err);
    info->err->format_message(info, manager->message);
    std::longjmp(manager->escape, 1);
}

// libjpeg goes on after damage with what it can guess.
void refuse_damage(j_common_ptr info, int level) {
    if (level >= 0) return;
    // "Extraneous bytes before marker", which cameras write, and an unknown Adobe code: what follows is whole.
    const char *text = info->err->jpeg_message_table[info->err->msg_code];
    if (std::strncmp(text, "Corrupt JPEG data: %u extraneous bytes", 38) == 0 || std::strstr(text, "Adobe")) return;
    escape(info);
}

void limit_scans(j_common_ptr info) {
    auto *manager = reinterpret_cast<ErrorManager *>(info->err);
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= MOST_SCANS) return;
    std::snprintf(manager->message, sizeof manager->message, "it has more than %d scans", MOST_SCANS);
    std::longjmp(manager->escape, 1);
}

// libjpeg's state: nothing between setjmp and longjmp has a destructor.
class Decoder {
public:
    explicit Decoder(const Bytes &bytes) {
        info.err = jpeg_std_error(&errors.base);
        errors.base.error_exit = escape;
        errors.base.emit_message = refuse_damage;
        errors.message[0] = 0;
        progress.progress_monitor = limit_scans;
        if (setjmp(errors.escape)) return;
        jpeg_create_decompress(&info);
        created = true;
        info.progress = &progress;
        jpeg_mem_src(&info, bytes.data, bytes.size);
        jpeg_read_header(&info, TRUE);
        good = true;
    }
    ~Decoder() {
        if (created) jpeg_destroy_decompress(&info);
    }
    Decoder(const Decoder &) = delete;

    bool start() {
        if (setjmp(errors.escape)) return false;
        return jpeg_start_decompress(&info);
    }
    bool read(Plane<uint8_t> &image) {
        if (setjmp(errors.escape)) return false;
        while (info.output_scanline < info.output_height) {
            JSAMPROW row = image.row(static_cast<int>(info.output_scanline));
            jpeg_read_scanlines(&info, &row, 1);
        }
        return jpeg_finish_decompress(&info);
    }

    jpeg_decompress_struct info{};
    ErrorManager errors;
    bool good = false;

private:
    jpeg_progress_mgr progress{};
    bool created = false;
};

}  // namespace

Stored decode_jpeg(const Bytes &bytes, const std::string &name, const Decoding &decoding) {
    Decoder decoder(bytes);
    const auto damaged = [&] {
        return BadInput(name + " cannot be decoded (" + one_line(decoder.errors.message) +
                        "); it is damaged or truncated.");
    };
    if (!decoder.good) throw damaged();
    jpeg_decompress_struct &info = decoder.info;
    check_pixels(name, info.image_width, info.image_height, decoding);
    if (info.num_components != 1 && info.num_components != 3)
        throw BadInput(name + " is a JPEG of " + std::to_string(info.num_components) +
                       " channels (CMYK), which the native program does not read; save it as RGB.");
    const Segments segments = walk(bytes);
    std::optional<int> orientation;
    if (!segments.exif.empty()) orientation = exif_orientation({segments.exif.data(), segments.exif.size()}, name);
    if (!orientation && segments.xmp.data) orientation = xmp_orientation(segments.xmp);

    if (!decoder.start()) throw damaged();
    Plane<uint8_t> image(static_cast<int>(info.output_width), static_cast<int>(info.output_height),
                         info.output_components);
    if (!decoder.read(image)) throw damaged();
    const bool grey = image.channels == 1;
    return {upright(std::move(image), orientation.value_or(1)), {}, grey, segments.profile};
}

}  // namespace vqi
