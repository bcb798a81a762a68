// A model of a folder, in ncnn, with a stopwatch at its networks.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include <facedeploy/ncnn.hpp>

#include "lap.hpp"
#include "model_file.hpp"

namespace runner {

// Tells a lap when a network runs.
struct LapWatch {
    Lap* lap = nullptr;
    void begin() const { lap->begin(); }
    void end() const { lap->end(); }
};

class Detector {
public:
    // What is wrong; empty where nothing is.
    std::string open(const std::string& folder, int threads) {
        if (std::string problem = read_model(folder, model_); !problem.empty()) return problem;
        const bool loaded = std::visit([&](const auto& what) { return make(what, folder, threads); }, model_.what);
        return loaded ? "" : "ncnn does not load the model in " + folder;
    }

    facedeploy::Result<std::vector<facedeploy::Face>> detect(const facedeploy::Picture& picture) {
        lap_->start();
        auto found = mos_ ? mos_->detect(picture) : boxes_->detect(picture);
        phases_ = lap_->stop();
        return found;
    }

    // Of the last picture.
    const Phases& phases() const { return phases_; }

private:
    bool make(const MosModel& what, const std::string& folder, int threads) {
        mos_ = std::make_unique<facedeploy::WatchedNcnnMos<LapWatch>>(what.config, what.networks, watch());
        return mos_->load(folder, threads) == facedeploy::Status::ok;
    }

    bool make(const BoxesModel& what, const std::string& folder, int threads) {
        boxes_ = std::make_unique<facedeploy::WatchedNcnnBoxes<LapWatch>>(what.config, what.networks, watch());
        return boxes_->load(folder, threads) == facedeploy::Status::ok;
    }

    LapWatch watch() const { return {lap_.get()}; }

    Model model_;
    std::unique_ptr<Lap> lap_ = std::make_unique<Lap>();  // The networks point to it.
    Phases phases_{};
    std::unique_ptr<facedeploy::WatchedNcnnMos<LapWatch>> mos_;
    std::unique_ptr<facedeploy::WatchedNcnnBoxes<LapWatch>> boxes_;
};

}  // namespace runner
