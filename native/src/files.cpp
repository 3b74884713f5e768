#include "files.h"

#include <fcntl.h>
#include <nettle/sha2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"

namespace vqi {

std::string one_line(const std::string &message) {
    std::string line;
    for (unsigned char letter : message) {
        if (letter > ' ')
            line += static_cast<char>(letter);
        else if (!line.empty() && line.back() != ' ')
            line += ' ';
        if (line.size() >= 300) break;
    }
    while (!line.empty() && (line.back() == '.' || line.back() == ' ')) line.pop_back();
    return line;
}

namespace {

struct Descriptor {
    int number;
    explicit Descriptor(int number) : number(number) {}
    Descriptor(const Descriptor &) = delete;
    ~Descriptor() {
        if (number >= 0) close(number);
    }
};

}  // namespace

std::vector<uint8_t> read_file(const std::string &path, uint64_t most) {
    const auto unreadable = [&] { return BadInput(path + " cannot be read (" + std::strerror(errno) + ")."); };
    // Without waiting, where it is a pipe.
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat about;
    if (file.number < 0 && (errno == ENOENT || errno == ENOTDIR)) throw BadInput(path + " is not a file.");
    if (file.number < 0 || fstat(file.number, &about) != 0) throw unreadable();
    if (!S_ISREG(about.st_mode)) throw BadInput(path + " is not a file.");
    if (static_cast<uint64_t>(about.st_size) > most)
        throw BadInput(path + " has more than " + std::to_string(most >> 20) + " MiB; scale it down.");
    std::vector<uint8_t> data(static_cast<size_t>(about.st_size));
    size_t filled = 0;
    while (filled < data.size()) {
        const ssize_t count = read(file.number, data.data() + filled, data.size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw unreadable();
        if (count == 0) break;  // it was cut while it was read
        filled += static_cast<size_t>(count);
    }
    data.resize(filled);
    return data;
}

std::string sha256_of(const std::vector<uint8_t> &data) {
    sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, data.size(), data.data());
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(&context, sizeof digest, digest);
    std::string text;
    for (uint8_t byte : digest) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

}  // namespace vqi
