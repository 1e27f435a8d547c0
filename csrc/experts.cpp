#include "experts.h"

#include <algorithm>
#include <cmath>

namespace madang {

Routing::Routing(const DecoderShape& shape)
    : n_experts_(shape.n_experts), n_used_(shape.n_experts_used), normalized_(shape.experts_normalized),
      weights_(size_t(shape.n_experts)), ends_(size_t(shape.n_experts)) {}

void Routing::choose(const float* logits, int token) {
    const double top = *std::max_element(logits, logits + n_experts_);
    double sum = 0, chosen_sum = 0;
    for (int e = 0; e < n_experts_; ++e) sum += weights_[size_t(e)] = std::exp(double(logits[e]) - top);
    Choice* chosen = choices(token);
    for (int k = 0; k < n_used_; ++k) {
        int best = -1;  // NaN compares with nothing: then the first that is left
        for (int e = 0; e < n_experts_; ++e) {
            if (weights_[size_t(e)] < 0) continue;
            if (best < 0 || weights_[size_t(e)] > weights_[size_t(best)]) best = e;
        }
        chosen[k] = {best, 0, float(weights_[size_t(best)] / sum)};
        chosen_sum += weights_[size_t(best)];
        weights_[size_t(best)] = -1;
    }
    if (normalized_)
        for (int k = 0; k < n_used_; ++k) chosen[k].weight = float(chosen[k].weight * (sum / chosen_sum));
}

void Routing::assign(const Rows& logits, int n_tokens) {
    choices_.resize(size_t(n_tokens) * n_used_);
    token_of_.resize(choices_.size());
    std::fill(ends_.begin(), ends_.end(), 0);
    for (int t = 0; t < n_tokens; ++t) {
        choose(logits.row(t), t);
        for (int k = 0; k < n_used_; ++k) ++ends_[size_t(choices(t)[k].expert)];
    }
    shares_.clear();
    int begin = 0;
    for (int e = 0; e < n_experts_; ++e) {
        const int n = ends_[size_t(e)];
        if (n > 0) shares_.push_back({e, {begin, begin + n}});
        ends_[size_t(e)] = begin;
        begin += n;
    }
    for (int t = 0; t < n_tokens; ++t)
        for (int k = 0; k < n_used_; ++k) {
            Choice& choice = choices(t)[k];
            choice.slot = ends_[size_t(choice.expert)]++;
            token_of_[size_t(choice.slot)] = t;
        }
}

void Routing::combine(int token, const Rows& rows, float* out, int n) const {
    for (int k = 0; k < n_used_; ++k) {
        const Choice& choice = choices(token)[k];
        const float* row = rows.row(choice.slot);
        for (int i = 0; i < n; ++i) out[i] += choice.weight * row[i];
    }
}

}  // namespace madang
