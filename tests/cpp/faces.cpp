// Finds the faces of raw BGR pictures with a packaged folder, a detector, a chain or a network that looks at faces, and
// prints them as JSON. Words: FOLDER [FILE HEIGHT WIDTH]...

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include <facedeploy/ncnn_crop.hpp>

#include "model.hpp"

namespace {

namespace fd = facedeploy;

template <class Values, class Print>
void list(const char* key, const Values& values, const Print& print) {
    std::printf(", \"%s\": [", key);
    const char* comma = "";
    for (const auto& value : values) {
        std::printf("%s", comma);
        print(value);
        comma = ", ";
    }
    std::printf("]");
}

void angle(const char* key, const std::optional<float>& value) {
    if (value) std::printf(", \"%s\": %.9g", key, static_cast<double>(*value));
}

void print(const fd::Face& face) {
    std::printf("{\"box\": [%.17g, %.17g, %.17g, %.17g], \"score\": %.9g", face.box[0], face.box[1], face.box[2],
                face.box[3], static_cast<double>(face.score));
    angle("yaw", face.yaw);
    angle("pitch", face.pitch);
    angle("roll", face.roll);
    list("landmarks", face.landmarks, [](const fd::Point& p) { std::printf("[%.17g, %.17g]", p.x, p.y); });
    list("embedding", face.embedding, [](float v) { std::printf("%.9g", static_cast<double>(v)); });
    // Bytes as numbers, so that no name needs quoting.
    list("names", face.classes, [](const fd::Class& c) {
        std::printf("[0");
        for (const char* b = c.name; *b != '\0'; ++b) std::printf(", %d", static_cast<unsigned char>(*b));
        std::printf("]");
    });
    list("shares", face.classes, [](const fd::Class& c) { std::printf("%.17g", c.probability); });
    std::printf("}");
}

}  // namespace

int main(int count, char** words) {
    if (check(fd::model::config()) != fd::Status::ok) return 1;
    auto model = fd::with_ncnn(fd::model::config(), fd::model::networks());
    if (count < 2 || model.load(words[1], 1) != fd::Status::ok) return 2;
    const auto networks = fd::model::networks();
    for (std::size_t i = 0; i < networks.size(); ++i) {
        if (std::strcmp(model.network(i).param, networks[i].param) != 0 || model.net(i).opt.num_threads != 1) return 3;
    }
    for (int i = 2; i + 2 < count; i += 3) {
        std::ifstream file(words[i], std::ios::binary);
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        fd::Picture picture;
        picture.data = reinterpret_cast<const std::uint8_t*>(bytes.data());
        picture.height = std::atoi(words[i + 1]);
        picture.width = std::atoi(words[i + 2]);
        picture.stride = static_cast<std::size_t>(picture.width) * 3;
        const auto found = model.detect(picture);
        std::printf("[%d", static_cast<int>(found.status));
        for (const fd::Face& face : found.value) {
            std::printf(", ");
            print(face);
        }
        std::printf("]\n");
    }
    return 0;
}
