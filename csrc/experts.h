// Mixture of experts (arXiv:2401.04088): which experts each token takes, and the rows in which they compute.
#pragma once
#include <span>
#include <vector>

#include "rows.h"
#include "shape.h"

namespace madang {

// Every token has one slot, a row of the experts' activations, per expert that it takes. Slots are sorted by expert, then by
// token, so that an expert reads its weights once for all of its tokens.
class Routing {
public:
    explicit Routing(const DecoderShape& shape);

    struct Share {
        int expert;
        Range slots;
    };

    // Lets n tokens choose by their rows of router logits: the highest, of equals the first.
    void assign(const Rows& logits, int n_tokens);
    int slots() const { return int(token_of_.size()); }
    std::span<const Share> shares() const { return shares_; }  // of the experts that any token takes
    int token_of(int slot) const { return token_of_[size_t(slot)]; }
    // out += the token's experts' rows, weighted, in the order of their rank: the same whatever else is in the batch.
    void combine(int token, const Rows& rows, float* out, int n) const;

private:
    struct Choice {
        int expert, slot;
        float weight;
    };
    Choice* choices(int token) { return choices_.data() + size_t(token) * n_used_; }
    const Choice* choices(int token) const { return choices_.data() + size_t(token) * n_used_; }
    void choose(const float* logits, int token);

    int n_experts_, n_used_;
    bool normalized_;
    std::vector<Choice> choices_;  // per token, best first
    std::vector<double> weights_;  // of all experts, for the token at hand; negative once chosen
    std::vector<int> token_of_, ends_;
    std::vector<Share> shares_;
};

}  // namespace madang
