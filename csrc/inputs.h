// What each matrix of a layer reads in a step that asked for it: an importance matrix is made of these rows.
#pragma once
#include <span>
#include <vector>

#include "batch.h"
#include "experts.h"

namespace madang {

enum class Input { attention, attention_output, ffn, ffn_down };

// Rows of float32, per layer and place. Of experts, rows of ffn_down are slots, sorted by expert; slots() says whose they are.
class Inputs {
public:
    explicit Inputs(const DecoderShape& shape) : shape_(shape) {}

    struct Slot {
        int32_t token, expert;
    };

    bool on() const { return on_; }
    void clear();
    // Makes room for what the batch asks for, if it asks.
    void prepare(const Batch& batch);
    // Row work; threads keep different rows.
    void keep(int layer, Input place, int row, const float* values);
    void keep_slots(int layer, const Routing& routing);

    // Throw std::invalid_argument when the last step did not keep them.
    int rows(Input place) const;
    int width(Input place) const;
    std::span<const float> of(int layer, Input place) const;  // [rows][width]
    std::span<const Slot> slots(int layer) const;

private:
    static constexpr int kPlaces = 4;
    void require(int layer) const;

    const DecoderShape& shape_;
    bool on_ = false;
    int n_tokens_ = 0;
    std::vector<std::vector<float>> kept_;  // [layers][places]
    std::vector<std::vector<Slot>> slots_;
};

}  // namespace madang
