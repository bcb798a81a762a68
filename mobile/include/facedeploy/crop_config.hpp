// The constants of a network that looks at one face, and of a chain. `facedeploy package` writes them as model.hpp.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "config.hpp"
#include "status.hpp"

namespace facedeploy {

// What is outside of the picture: black; the pixel that comes closest to zero in the tensor; that at the edge. cut: the
// crop ends at the edge.
enum class Edge { black, mean, replicate, cut };
// Where the five points of a face are moved to, instead of a crop around its box.
enum class Align { none, arcface };
// unit: 0..1 of the crop. signed_unit: -1..1 of it. pixels: of the network's input. heatmaps: the largest cell of each,
// moved by a quarter of a cell to the larger neighbour.
enum class PointsIn { unit, signed_unit, pixels, heatmaps };
// planes: all x, then all y.
enum class Order { xy, yx, planes };
// bins: logits, of which the mean under softmax is the angle. matrix: a rotation, rows first. columns: its first two.
enum class Form { degrees, radians, bins, columns, matrix };
enum class Activation { none, softmax, sigmoid };

// grow: how many times as large as the box. shift: by how many widths and heights of it the middle moves. square: the
// crop has the proportions of the network's input.
struct Place {
    double grow_x = 1;
    double grow_y = 1;
    double shift_x = 0;
    double shift_y = 0;
    bool square = true;
    Align align = Align::none;
    Edge edge = Edge::black;
};

// size: numbers of the output, 0 where the network gives no points. first: where the points begin. values: numbers of
// each. rows, columns: of a heat map.
struct PointsConfig {
    int size = 0;
    int count = 0;
    int first = 0;
    int values = 2;
    int rows = 0;
    int columns = 0;
    PointsIn points_in = PointsIn::unit;
    Order order = Order::xy;
};

// at: which of the three. negate: its sign is the other way round than in Face.
struct AngleConfig {
    int at = 0;
    bool negate = false;
};

// outputs: 1, or 3 with an angle each, of `size` numbers; 0 where the network gives no angles. bin_size: degrees.
struct PoseConfig {
    int outputs = 0;
    int size = 0;
    int first = 0;
    Form form = Form::degrees;
    double bin_size = 3;
    AngleConfig yaw;
    AngleConfig pitch;
    AngleConfig roll;
};

// size: 0 where the network gives none. normalise: brought to a length of 1.
struct EmbeddingConfig {
    int size = 0;
    bool normalise = true;
};

// size: numbers of the output, of which those of `names` begin at `first`. They stay what they are: literals.
struct ClassesConfig {
    int size = 0;
    int first = 0;
    Activation activation = Activation::none;
    std::vector<const char*> names;
};

// A network that looks at faces that a detector has found. The protocol of `input` does not count.
struct CropConfig {
    Input input;
    Place place;
    PointsConfig points;
    PoseConfig pose;
    EmbeddingConfig embedding;
    ClassesConfig classes;
};

// A detector, MosConfig or BoxesConfig, and networks that look at its faces.
template <class Detector, std::size_t Lookers>
struct ChainConfig {
    Detector detector;
    std::array<CropConfig, Lookers> lookers;
};

namespace detail {

inline bool sound(const Place& place) {
    const bool around = place.grow_x == 1 && place.grow_y == 1 && place.shift_x == 0 && place.shift_y == 0;
    return between(place.grow_x, 0.1, 10.0) && between(place.grow_y, 0.1, 10.0) && between(place.shift_x, -2.0, 2.0) &&
           between(place.shift_y, -2.0, 2.0) && (place.align == Align::none || (around && place.edge != Edge::cut));
}

inline bool sound(const PointsConfig& points) {
    if (points.size == 0) return true;
    if (!between(points.size, 1, largest_count) || !between(points.count, 1, points.size)) return false;
    if (points.points_in == PointsIn::heatmaps) {
        const bool sides = between(points.rows, 1, largest_side) && between(points.columns, 1, largest_side);
        return sides && points.size % points.count == 0 && points.size / points.count % points.rows == 0 &&
               points.size / points.count / points.rows == points.columns;
    }
    return between(points.values, 2, points.size) && between(points.first, 0, points.size) &&
           points.count <= (points.size - points.first) / points.values;
}

inline bool sound(const PoseConfig& pose) {
    if (pose.outputs == 0) return true;
    const bool rotation = pose.form == Form::columns || pose.form == Form::matrix;
    const bool angles = between(pose.yaw.at, 0, 2) && between(pose.pitch.at, 0, 2) && between(pose.roll.at, 0, 2);
    const bool alone = pose.outputs == 1 && between(pose.first, 0, largest_count);
    const int have = pose.size - (alone ? pose.first : 0);
    const int least = rotation ? (pose.form == Form::matrix ? 9 : 6) : pose.outputs == 1 ? 3 : 1;
    return angles && (alone || (pose.outputs == 3 && !rotation)) && between(pose.size, 1, largest_count) &&
           have >= least && between(pose.bin_size, 0.0, 90.0) &&
           (pose.form != Form::bins || pose.outputs == 3 || have % 3 == 0);
}

inline bool sound(const ClassesConfig& classes) {
    if (classes.names.empty()) return true;
    return between(classes.size, 1, largest_count) && between(classes.first, 0, classes.size) &&
           classes.names.size() <= static_cast<std::size_t>(classes.size - classes.first);
}

}  // namespace detail

inline Status check(const CropConfig& config) {
    const bool good = detail::sound(config.input) && detail::sound(config.place) && detail::sound(config.points) &&
                      detail::sound(config.pose) && detail::between(config.embedding.size, 0, detail::largest_count) &&
                      detail::sound(config.classes);
    return good ? Status::ok : Status::bad_config;
}

template <class Detector, std::size_t Lookers>
Status check(const ChainConfig<Detector, Lookers>& config) {
    Status status = check(config.detector);
    for (const CropConfig& looker : config.lookers) status = status == Status::ok ? check(looker) : status;
    return status;
}

}  // namespace facedeploy
