#include "inputs.h"

#include <algorithm>
#include <stdexcept>

namespace madang {

void Inputs::clear() {
    on_ = false;
    n_tokens_ = 0;
    kept_.clear();
    slots_.clear();
}

void Inputs::prepare(const Batch& batch) {
    if (!batch.inputs) return clear();
    n_tokens_ = batch.size();
    kept_.resize(size_t(shape_.n_layers) * kPlaces);
    slots_.resize(size_t(shape_.n_layers));
    for (size_t i = 0; i < kept_.size(); ++i) {
        const Input place = Input(i % kPlaces);
        kept_[i].resize(size_t(rows(place)) * width(place));
    }
    on_ = true;
}

int Inputs::rows(Input place) const { return n_tokens_ * (place == Input::ffn_down ? shape_.slots_per_token() : 1); }

int Inputs::width(Input place) const {
    switch (place) {
        case Input::attention_output: return shape_.n_heads * shape_.head_dim;
        case Input::ffn_down: return shape_.n_ff;
        default: return shape_.n_embd;
    }
}

void Inputs::keep(int layer, Input place, int row, const float* values) {
    const size_t n = size_t(width(place));
    std::copy_n(values, n, kept_[size_t(layer) * kPlaces + size_t(place)].data() + size_t(row) * n);
}

void Inputs::keep_slots(int layer, const Routing& routing) {
    std::vector<Slot>& slots = slots_[size_t(layer)];
    slots.clear();
    for (const Routing::Share& share : routing.shares())
        for (int slot = share.slots.begin; slot < share.slots.end; ++slot) slots.push_back({routing.token_of(slot), share.expert});
}

void Inputs::require(int layer) const {
    if (!on_) throw std::invalid_argument("the last step did not keep what its matrices read");
    if (layer < 0 || layer >= shape_.n_layers) throw std::invalid_argument("there is no such layer");
}

std::span<const float> Inputs::of(int layer, Input place) const {
    require(layer);
    return kept_[size_t(layer) * kPlaces + size_t(place)];
}

std::span<const Inputs::Slot> Inputs::slots(int layer) const {
    require(layer);
    return slots_[size_t(layer)];
}

}  // namespace madang
