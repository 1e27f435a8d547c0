// What a model is: the dimensions and switches of DecoderSpec (src/madang/formats/spec.py), as the core sees them.
#pragma once
#include <optional>
#include <vector>

#include "kernels/kernels.h"

namespace madang {

struct Rope {
    bool interleaved = false;                // pairs (2i, 2i+1), else (i, i + n/2)
    std::vector<float> inverse_frequencies;  // one per pair; 2 * size() <= head_dim elements are rotated
    float magnitude = 1;
    int pairs() const { return int(inverse_frequencies.size()); }
};

struct DecoderShape {
    int n_layers = 0, n_embd = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, n_ff = 0, vocab_size = 0;
    std::vector<Rope> ropes;        // the different ones
    std::vector<int> layer_ropes;   // per layer: which of them, or -1 where nothing is rotated
    std::optional<Rope> long_rope;  // in place of each of them, for the sequences that ask for it
    std::vector<int> window_tokens; // per layer; 0 is unlimited
    std::vector<int> page_groups;   // per layer: the group whose cache pages hold it; empty is one group of all
    float norm_epsilon = 1e-5f;
    bool layer_norm = false;        // else RMS norm
    bool norms_sum = false;         // post norms take the sum with the residual stream, not the branch alone
    bool parallel = false;          // attention and feed-forward both read the layer's input
    bool gated = true;
    bool causal = true;             // an encoder is not, and has no output matrix
    Activation activation = Activation::silu;
    int n_experts = 0, n_experts_used = 0;  // 0: one dense feed-forward
    bool experts_normalized = true;         // the weights of a token's experts add up to 1
    std::optional<float> attention_scale;   // default 1 / sqrt(head_dim)
    std::optional<float> attention_softcap, logit_softcap;
    float embedding_scale = 1, residual_scale = 1, logit_scale = 1;

    int n_page_groups() const;
    int heads_per_kv() const { return n_heads / n_kv_heads; }
    // Rows that the feed-forward part computes per token.
    int slots_per_token() const { return n_experts > 0 ? n_experts_used : 1; }
    // Throws std::invalid_argument when the dimensions contradict each other.
    void check() const;
};

}  // namespace madang
