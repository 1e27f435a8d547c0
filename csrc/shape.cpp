#include "shape.h"

#include <cstdint>
#include <stdexcept>

#include "layout.h"

namespace madang {

namespace {
constexpr int kMaxHeadDim = 1024;
}

void DecoderShape::check() const {
    const bool positive = n_layers > 0 && n_embd > 0 && n_heads > 0 && n_kv_heads > 0 && head_dim > 0 && n_ff > 0 && vocab_size > 0;
    if (!positive || head_dim > kMaxHeadDim || n_heads % n_kv_heads != 0 || int64_t(n_heads) * head_dim > kMaxColumns ||
        int(window_tokens.size()) != n_layers || 2 * int(inverse_frequencies.size()) > head_dim)
        throw std::invalid_argument("the decoder's dimensions contradict each other");
}

}  // namespace madang
