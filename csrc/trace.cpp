#include "trace.h"

#include <algorithm>
#include <stdexcept>

namespace madang {

void Trace::clear() {
    on_ = false;
    n_tokens_ = n_positions_ = 0;
    hidden_ = {};
    attention_ = {};
}

void Trace::prepare(const Batch& batch) {
    clear();
    if (!batch.trace) return;
    const int n_positions = *std::max_element(batch.positions.begin(), batch.positions.end()) + 1;
    hidden_.resize(size_t(shape_.n_layers + 1) * batch.size() * shape_.n_embd);
    attention_.resize(size_t(shape_.n_layers) * shape_.n_heads * batch.size() * n_positions);
    n_tokens_ = batch.size();
    n_positions_ = n_positions;
    on_ = true;
}

void Trace::require() const {
    if (!on_) throw std::invalid_argument("the last step was not traced");
}

std::span<const float> Trace::hidden() const {
    require();
    return hidden_;
}

std::span<const float> Trace::attention() const {
    require();
    return attention_;
}

void Trace::keep_hidden(int index, int token, const float* row) {
    std::copy(row, row + shape_.n_embd, hidden_.data() + (size_t(index) * n_tokens_ + token) * shape_.n_embd);
}

void Trace::keep_attention(int layer, int token, const Attention& attention) {
    for (int h = 0; h < shape_.n_heads; ++h) {
        const size_t row = (size_t(layer) * shape_.n_heads + h) * n_tokens_ + token;
        attention.probabilities(layer, token, h, attention_.data() + row * n_positions_, n_positions_);
    }
}

}  // namespace madang
