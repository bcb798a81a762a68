// Runs networks that look at faces on cases from stdin, and writes the answers to stdout, as cases.hpp says.

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <facedeploy/facedeploy.hpp>

#include "cases.hpp"

namespace {

using namespace cases;

fd::CropConfig read_config(const std::vector<std::string>& names) {
    fd::CropConfig config;
    config.input = read_input();
    fd::Place& place = config.place;
    for (double* v : {&place.grow_x, &place.grow_y, &place.shift_x, &place.shift_y}) *v = read<double>();
    place.square = flag();
    place.align = static_cast<fd::Align>(integer());
    place.edge = static_cast<fd::Edge>(integer());
    fd::PointsConfig& points = config.points;
    for (int* v : {&points.size, &points.count, &points.first, &points.values, &points.rows, &points.columns}) {
        *v = integer();
    }
    points.points_in = static_cast<fd::PointsIn>(integer());
    points.order = static_cast<fd::Order>(integer());
    fd::PoseConfig& pose = config.pose;
    for (int* v : {&pose.outputs, &pose.size, &pose.first}) *v = integer();
    pose.form = static_cast<fd::Form>(integer());
    pose.bin_size = read<double>();
    for (fd::AngleConfig* angle : {&pose.yaw, &pose.pitch, &pose.roll}) {
        angle->at = integer();
        angle->negate = flag();
    }
    config.embedding.size = integer();
    config.embedding.normalise = flag();
    config.classes.size = integer();
    config.classes.first = integer();
    config.classes.activation = static_cast<fd::Activation>(integer());
    for (const std::string& name : names) config.classes.names.push_back(name.c_str());
    return config;
}

std::vector<fd::Face> read_given() {
    std::vector<fd::Face> faces(static_cast<std::size_t>(integer()));
    for (fd::Face& face : faces) {
        for (double& v : face.box) v = read<double>();
        face.score = read<float>();
        const std::vector<double> points = read_array<double>();
        for (std::size_t i = 0; i < points.size(); i += 2) face.landmarks.push_back({points[i], points[i + 1]});
    }
    return faces;
}

// One after the other: the answers of face after face lie in `memory`, so many numbers of each.
fd::Floats next(const std::vector<float>& memory, std::size_t faces, std::size_t face) {
    const std::size_t size = memory.size() / faces;
    return {memory.data() + face * size, size};
}

void crop_case() {
    std::vector<std::string> names(static_cast<std::size_t>(integer()));
    for (std::size_t i = 0; i < names.size(); ++i) names[i] = std::to_string(i);
    fd::Crop crop(read_config(names));
    const OwnedPicture owned = read_picture();
    const bool alone = flag();
    const std::vector<fd::Face> given = read_given();
    std::array<std::vector<float>, 6> memory;
    for (auto& array : memory) array = read_array<float>();

    std::vector<float> seen;
    std::size_t face = 0;
    const auto network = [&](const fd::Image& image, fd::CropOutputs& outputs) {
        const auto size = static_cast<std::size_t>(image.height) * static_cast<std::size_t>(image.width);
        for (std::size_t c = 0; c < 3; ++c) {
            seen.insert(seen.end(), image.data + c * image.step, image.data + c * image.step + size);
            image.data[c * image.step] = 1e30F;  // A network may change it.
        }
        std::array<fd::Floats, 6> of;
        for (std::size_t i = 0; i < of.size(); ++i) of[i] = next(memory[i], alone ? 1 : given.size(), face);
        outputs = {of[0], {{of[1], of[2], of[3]}}, of[4], of[5]};
        ++face;
        return fd::Status::ok;
    };
    const auto told = alone ? crop.detect(owned.picture, network) : crop.locate(owned.picture, given, network);
    write_faces(told);
    for (const fd::Face& each : told.value) {
        write_array(each.embedding.data(), each.embedding.size());
        std::vector<double> shares;
        for (const fd::Class& one : each.classes) shares.push_back(one.probability);
        write_array(shares.data(), shares.size());
    }
    write_array(seen.data(), seen.size());
}

}  // namespace

int main() {
    for (int kind = std::getchar(); kind != EOF; kind = std::getchar()) {
        if (kind != 'C') return truncated;
        crop_case();
    }
    return 0;
}
