#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

namespace madang {

namespace {

// SplitMix64 (Steele, Lea, Flood 2014) of seed and counter: no state to carry, so a draw can be repeated on its own.
uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

int32_t argmax(std::span<const float> logits, const Kernels& kernels) {
    const float top = kernels.max(logits.data(), int(logits.size()));
    const auto found = std::find(logits.begin(), logits.end(), top);
    if (found == logits.end()) throw NotNumbers();
    return int32_t(found - logits.begin());
}

bool more_likely(float logit_a, int32_t token_a, float logit_b, int32_t token_b) {
    return logit_a > logit_b || (logit_a == logit_b && token_a < token_b);
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)) {}

void Sampler::accept(std::span<const int32_t> tokens) { history_.insert(history_.end(), tokens.begin(), tokens.end()); }

double Sampler::next_uniform() {
    return double(mix(mix(options_.seed) ^ mix(draws_++ + 0x632be59bd9b4e019)) >> 11) * 0x1p-53;
}

// Bias and penalties touch few tokens, but change them in a copy: the logits belong to the decoder.
void Sampler::adjust(std::span<const float> logits) {
    adjusted_.assign(logits.begin(), logits.end());
    for (const auto& [token, value] : options_.bias)
        if (token >= 0 && size_t(token) < adjusted_.size()) adjusted_[token] += value;
    const size_t look_back = options_.repeat_last_n < 0 ? history_.size() : std::min(history_.size(), size_t(options_.repeat_last_n));
    std::unordered_map<int32_t, int> counts;
    for (size_t i = history_.size() - look_back; i < history_.size(); ++i) ++counts[history_[i]];
    for (const auto& [token, count] : counts) {
        if (token < 0 || size_t(token) >= adjusted_.size()) continue;
        float& logit = adjusted_[token];
        logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
        logit -= options_.presence_penalty + options_.frequency_penalty * float(count);
    }
}

// The n most likely tokens in order. A heap of the best so far; whole vectors below its worst are skipped.
void Sampler::keep_best(std::span<const float> logits, const Kernels& kernels, size_t n) {
    constexpr size_t kStride = 256;
    n = std::min(n, logits.size());
    const auto better = [](const Candidate& a, const Candidate& b) { return more_likely(a.logit, a.token, b.logit, b.token); };
    best_.clear();
    for (size_t begin = 0; begin < logits.size(); begin += kStride) {
        const size_t end = std::min(begin + kStride, logits.size());
        if (best_.size() == n && !(kernels.max(logits.data() + begin, int(end - begin)) > best_.front().logit)) continue;
        for (size_t i = begin; i < end; ++i) {
            if (best_.size() == n) {
                if (!(logits[i] > best_.front().logit)) continue;
                std::pop_heap(best_.begin(), best_.end(), better);
                best_.pop_back();
            }
            best_.push_back({int32_t(i), logits[i]});
            std::push_heap(best_.begin(), best_.end(), better);
        }
    }
    std::sort(best_.begin(), best_.end(), better);
}

int32_t Sampler::draw_from_all(std::span<const float> logits, const Kernels& kernels) {
    exponentials_.resize(logits.size());
    const float top = kernels.max(logits.data(), int(logits.size()));
    const double sum = kernels.exponentials(logits.data(), top, 1 / options_.temperature, exponentials_.data(), int(logits.size()));
    double left = next_uniform() * sum;
    for (size_t i = 0; i < exponentials_.size(); ++i)
        if ((left -= exponentials_[i]) < 0) return int32_t(i);
    return argmax(logits, kernels);  // rounding left a sliver
}

int32_t Sampler::draw(std::span<const float> logits, const Kernels& kernels) {
    const bool all = options_.top_k <= 0 || size_t(options_.top_k) >= logits.size();
    if (all && options_.top_p >= 1 && options_.min_p <= 0) return draw_from_all(logits, kernels);
    const float top = kernels.max(logits.data(), int(logits.size()));
    exponentials_.resize(logits.size());
    double total = all ? kernels.exponentials(logits.data(), top, 1 / options_.temperature, exponentials_.data(), int(logits.size())) : 0;
    std::vector<double> weights;
    for (size_t n = all ? 64 : size_t(options_.top_k);; n *= 8) {  // without top-k: sort only as deep as top-p and min-p reach
        keep_best(logits, kernels, n);
        weights.clear();
        double kept = 0;
        for (const Candidate& candidate : best_) weights.push_back(std::exp((candidate.logit - top) / options_.temperature));
        if (!all)
            for (const double weight : weights) total += weight;
        size_t end = 0;
        while (end < weights.size() && (end == 0 || (kept < options_.top_p * total && weights[end] >= options_.min_p))) kept += weights[end++];
        if (end == weights.size() && all && best_.size() < logits.size()) continue;
        weights.resize(end);
        double left = next_uniform() * kept;
        for (size_t i = 0; i < weights.size(); ++i)
            if ((left -= weights[i]) < 0) return best_[i].token;
        return best_.front().token;
    }
}

Choice Sampler::sample(std::span<const float> logits, const Kernels& kernels, int n_alternatives) {
    const bool penalties = options_.repeat_last_n != 0 &&
                           (options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0);
    std::span<const float> used = logits;
    if (penalties || !options_.bias.empty()) {
        adjust(logits);
        used = adjusted_;
    }
    if (!std::isfinite(kernels.max(used.data(), int(used.size())))) throw NotNumbers();
    Choice choice{options_.temperature > 0 ? draw(used, kernels) : argmax(used, kernels), 0, {}};
    history_.push_back(choice.token);
    if (n_alternatives < 0) return choice;
    const LogSoftmax log_softmax(logits, kernels, exponentials_);
    choice.logprob = log_softmax(logits[choice.token]);
    if (n_alternatives > 0) keep_best(logits, kernels, size_t(n_alternatives));
    for (int i = 0; i < n_alternatives && size_t(i) < best_.size(); ++i)
        choice.alternatives.emplace_back(best_[i].token, log_softmax(best_[i].logit));
    return choice;
}

}  // namespace madang
