// What a model is: the dimensions and switches of DecoderSpec (src/madang/formats/spec.py), as the core sees them.
#pragma once
#include <vector>

namespace madang {

struct DecoderShape {
    int n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, vocab_size;
    float norm_epsilon;
    bool rope_interleaved;                    // pairs (2i, 2i+1), else (i, i + n/2)
    std::vector<float> inverse_frequencies;   // one per pair; 2 * size() <= head_dim elements are rotated
    float rope_magnitude;
    std::vector<int> window_tokens;           // per layer; 0 is unlimited

    int heads_per_kv() const { return n_heads / n_kv_heads; }
    // Throws std::invalid_argument when the dimensions contradict each other.
    void check() const;
};

}  // namespace madang
