#include "shape.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace madang {

namespace {

constexpr int kMaxHeadDim = 1024;

bool dimensions_fit(const DecoderShape& s) {
    const auto all_positive = {s.n_layers, s.n_embd, s.n_heads, s.n_kv_heads, s.head_dim, s.n_ff, s.vocab_size};
    return std::min(all_positive) > 0 && s.head_dim <= kMaxHeadDim && s.n_heads % s.n_kv_heads == 0 &&
           int64_t(s.n_heads) * s.head_dim <= kMaxColumns;
}

bool ropes_fit(const DecoderShape& s) {
    const auto fits = [&](const Rope& rope) { return 2 * int64_t(rope.pairs()) <= s.head_dim; };
    const auto long_fits = [&](const Rope& rope) {
        return !s.long_rope || (rope.pairs() == s.long_rope->pairs() && rope.interleaved == s.long_rope->interleaved);
    };
    const auto known = [&](int rope) { return rope >= -1 && rope < int(s.ropes.size()); };
    return int(s.layer_ropes.size()) == s.n_layers && std::all_of(s.layer_ropes.begin(), s.layer_ropes.end(), known) &&
           std::all_of(s.ropes.begin(), s.ropes.end(), fits) && std::all_of(s.ropes.begin(), s.ropes.end(), long_fits);
}

bool groups_fit(const DecoderShape& s) {
    const auto known = [&](int group) { return group >= 0 && group < s.n_layers; };
    return s.page_groups.empty() || (int(s.page_groups.size()) == s.n_layers &&
                                     std::all_of(s.page_groups.begin(), s.page_groups.end(), known));
}

bool layers_fit(const DecoderShape& s) {
    const bool windows = int(s.window_tokens.size()) == s.n_layers &&
                         *std::min_element(s.window_tokens.begin(), s.window_tokens.end()) >= 0;
    const bool experts = s.n_experts == 0 ? s.n_experts_used == 0 : s.n_experts_used > 0 && s.n_experts_used <= s.n_experts;
    return windows && experts && !(s.parallel && s.norms_sum);
}

}  // namespace

int DecoderShape::n_page_groups() const {
    return page_groups.empty() ? 1 : *std::max_element(page_groups.begin(), page_groups.end()) + 1;
}

void DecoderShape::check() const {
    if (!dimensions_fit(*this) || !ropes_fit(*this) || !layers_fit(*this) || !groups_fit(*this))
        throw std::invalid_argument("the decoder's dimensions contradict each other");
}

}  // namespace madang
