// What a step leaves of its inside when asked: the residual stream between layers, and what each head looks at.
#pragma once
#include <span>
#include <vector>

#include "attention.h"

namespace madang {

class Trace {
public:
    explicit Trace(const DecoderShape& shape) : shape_(shape) {}

    bool on() const { return on_; }
    void clear();
    // Makes room for what the batch asks for, if it asks.
    void prepare(const Batch& batch);
    // Row work: the stream as layer `index` reads it; after the last layer, index is their number.
    void keep_hidden(int index, int token, const float* row);
    void keep_attention(int layer, int token, const Attention& attention);

    int n_tokens() const { return n_tokens_; }
    int n_positions() const { return n_positions_; }
    // Throw std::invalid_argument when the last step was not traced.
    std::span<const float> hidden() const;     // [layers + 1][tokens][n_embd]
    std::span<const float> attention() const;  // [layers][heads][tokens][positions]

private:
    void require() const;

    const DecoderShape& shape_;
    bool on_ = false;
    int n_tokens_ = 0, n_positions_ = 0;
    std::vector<float> hidden_, attention_;
};

}  // namespace madang
