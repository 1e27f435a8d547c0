#include "sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace madang {

namespace {

constexpr int kRanges = 2048;    // of logits, see find_ranges
constexpr size_t kFewBest = 64;  // sorted first, which is enough unless the distribution is flat

// SplitMix64 (Steele, Lea, Flood 2014) of seed and counter: no state to carry, so a draw can be repeated on its own.
uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

int32_t index_of(float top, std::span<const float> logits) {
    const auto found = std::find(logits.begin(), logits.end(), top);
    if (found == logits.end()) throw NotNumbers();
    return int32_t(found - logits.begin());
}

constexpr int kWordBits = 32;
constexpr float kImpossible = -std::numeric_limits<float>::infinity();
constexpr auto kBits = [] {
    std::array<uint32_t, kWordBits> bits{};
    for (int i = 0; i < kWordBits; ++i) bits[i] = 1u << i;
    return bits;
}();

// The tokens of one word of a mask. Masks are as good as random to a branch predictor, so there are no branches, and whole
// words are written so that compilers use vectors.
void copy_where(const float* logits, uint32_t bits, float* allowed, size_t n) {
    const auto copy = [=](size_t i) {
        const uint32_t keep = (bits & kBits[i]) != 0 ? ~0u : 0u;
        allowed[i] = std::bit_cast<float>((std::bit_cast<uint32_t>(logits[i]) & keep) | (std::bit_cast<uint32_t>(kImpossible) & ~keep));
    };
    if (n == kWordBits)
        for (size_t i = 0; i < kWordBits; ++i) copy(i);
    else
        for (size_t i = 0; i < n; ++i) copy(i);
}

// A copy of the logits in which tokens whose bit is not set, or that have none, are impossible. Bit i % 32 of word i / 32.
void copy_allowed(std::span<const float> logits, std::span<const uint32_t> mask, std::vector<float>& allowed) {
    allowed.resize(logits.size());
    for (size_t begin = 0; begin < logits.size(); begin += kWordBits) {
        const size_t end = std::min(begin + kWordBits, logits.size());
        const uint32_t bits = begin / kWordBits < mask.size() ? mask[begin / kWordBits] : 0;
        if (bits == 0)
            std::fill(allowed.begin() + begin, allowed.begin() + end, kImpossible);
        else if (bits == ~0u)
            std::copy(logits.begin() + begin, logits.begin() + end, allowed.begin() + begin);
        else
            copy_where(logits.data() + begin, bits, allowed.data() + begin, end - begin);
    }
}

bool more_likely(float logit_a, int32_t token_a, float logit_b, int32_t token_b) {
    return logit_a > logit_b || (logit_a == logit_b && token_a < token_b);
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)) {}

void Sampler::accept(std::span<const int32_t> tokens) { history_.insert(history_.end(), tokens.begin(), tokens.end()); }

// Of the next draw; take() counts it.
double Sampler::uniform() const {
    return double(mix(mix(options_.seed) ^ mix(draws_ + 0x632be59bd9b4e019)) >> 11) * 0x1p-53;
}

bool Sampler::has_penalties() const {
    return options_.repeat_last_n != 0 &&
           (options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0);
}

bool Sampler::keeps_all(size_t n_words) const { return options_.top_k <= 0 || size_t(options_.top_k) >= n_words; }

// Bias and penalties of few tokens, in the copy: the logits belong to the decoder.
void Sampler::adjust() {
    for (const auto& [token, value] : options_.bias)
        if (token >= 0 && size_t(token) < adjusted_.size() && std::isfinite(adjusted_[token])) adjusted_[token] += value;
    if (!has_penalties()) return;
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

int32_t Sampler::draw_from_all(std::span<const float> logits, float top, const Kernels& kernels) {
    exponentials_.resize(logits.size());
    const double sum = kernels.exponentials(logits.data(), top, 1 / options_.temperature, exponentials_.data(), int(logits.size()));
    double left = uniform() * sum;
    for (size_t i = 0; i < exponentials_.size(); ++i)
        if ((left -= exponentials_[i]) < 0) return int32_t(i);
    return index_of(top, logits);  // rounding left a sliver
}

int32_t Sampler::draw(std::span<const float> logits, float top, const Kernels& kernels) {
    const bool all = keeps_all(logits.size());
    if (all && options_.top_p >= 1 && options_.min_p <= 0) return draw_from_all(logits, top, kernels);
    exponentials_.resize(logits.size());
    double total = all ? kernels.exponentials(logits.data(), top, 1 / options_.temperature, exponentials_.data(), int(logits.size())) : 0;
    keep_best(logits, kernels, all ? kFewBest : size_t(options_.top_k));
    weights_.clear();
    for (const Candidate& candidate : best_) weights_.push_back(std::exp((candidate.logit - top) / options_.temperature));
    if (!all) total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    size_t end = 0;
    double kept = 0;
    while (end < weights_.size() && (end == 0 || (kept < options_.top_p * total && weights_[end] >= options_.min_p))) kept += weights_[end++];
    if (all && end == weights_.size() && end < logits.size()) return draw_from_many(logits, top, total);
    double left = uniform() * kept;
    for (size_t i = 0; i < end; ++i)
        if ((left -= weights_[i]) < 0) return best_[i].token;
    return best_.front().token;
}

// Top-p and min-p where they keep more tokens than are worth sorting. Tokens are counted into ranges of their logit, and only
// the two ranges are sorted in which the kept tokens end and the drawn one lies.
int32_t Sampler::draw_from_many(std::span<const float> logits, float top, double total) {
    for (float& weight : exponentials_) weight = weight >= options_.min_p ? weight : 0;
    find_ranges(logits, top);
    range_weights_.assign(kRanges, 0);
    for (size_t i = 0; i < logits.size(); ++i) range_weights_[ranges_[i]] += exponentials_[i];

    const double wanted = options_.top_p * total;
    double kept = 0;
    int last = 0;  // the range within which the kept tokens end
    while (last < kRanges - 1 && kept + range_weights_[last] < wanted) kept += range_weights_[last++];
    sort_range(logits, last);
    const double before = kept;
    size_t n_last = 0;
    while (n_last < best_.size() && kept < wanted) kept += exponentials_[best_[n_last++].token];
    range_weights_[last] = kept - before;

    double left = uniform() * kept;
    int drawn = 0;
    while (drawn < last && left >= range_weights_[drawn]) left -= range_weights_[drawn++];
    while (drawn > 0 && range_weights_[drawn] <= 0) --drawn;  // rounding left a sliver
    if (drawn != last) sort_range(logits, drawn);
    const size_t n = drawn == last ? n_last : best_.size();
    size_t i = 0;
    while (i + 1 < n && (left -= exponentials_[best_[i].token]) >= 0) ++i;
    return best_[i].token;
}

// The range of each token: equal widths from the most likely logit down. Written so that compilers use vectors.
void Sampler::find_ranges(std::span<const float> logits, float top) {
    constexpr int kLanes = 16;
    constexpr float kDeepest = 24;  // e-folds; what lies below shares the last range
    constexpr float kSteepest = 1e38f;
    float low[kLanes];
    std::fill(low, low + kLanes, top);
    for (size_t begin = 0; begin + kLanes <= logits.size(); begin += kLanes)
        for (int i = 0; i < kLanes; ++i) {
            const float x = logits[begin + i] > -std::numeric_limits<float>::infinity() ? logits[begin + i] : top;
            low[i] = x < low[i] ? x : low[i];
        }
    const float depth = std::min(top - *std::min_element(low, low + kLanes), kDeepest * options_.temperature);
    const float scale = depth > 0 ? std::min(kRanges / depth, kSteepest) : 1;
    ranges_.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
        const float range = (top - logits[i]) * scale;
        ranges_[i] = int32_t(range < kRanges - 1 ? range : kRanges - 1);
    }
}

// The tokens of one range that can be drawn, most likely first.
void Sampler::sort_range(std::span<const float> logits, int range) {
    best_.clear();
    for (size_t i = 0; i < logits.size(); ++i)
        if (ranges_[i] == range && exponentials_[i] > 0) best_.push_back({int32_t(i), logits[i]});
    const auto better = [](const Candidate& a, const Candidate& b) { return more_likely(a.logit, a.token, b.logit, b.token); };
    if (!std::is_sorted(best_.begin(), best_.end(), better)) std::sort(best_.begin(), best_.end(), better);
}

// Of the tokens that are kept under any mask, the summed likelihood relative to the most likely one: at most this.
double Sampler::most_kept(std::span<const float> logits, float top, const Kernels& kernels) {
    if (keeps_all(logits.size())) {
        exponentials_.resize(logits.size());
        return kernels.exponentials(logits.data(), top, 1 / options_.temperature, exponentials_.data(), int(logits.size()));
    }
    keep_best(logits, kernels, size_t(options_.top_k));
    double sum = 0;
    for (const Candidate& candidate : best_) {
        const double weight = std::exp((candidate.logit - top) / options_.temperature);
        if (weight >= options_.min_p) sum += weight;
    }
    return sum;
}

// A mask that allows the most likely token leaves the others' weights as they are, or takes them away. Where kept tokens are
// drawn in the order of their likelihood, the first is drawn if it covers the random number even when no other is taken away.
int32_t Sampler::foresee(std::span<const float> logits, const Kernels& kernels) {
    constexpr double kRounding = 1e-3;  // far above that of any sum of exponentials
    const bool in_order = !keeps_all(logits.size()) || options_.top_p < 1 || options_.min_p > 0;
    if (options_.temperature > 0 && !in_order) return -1;
    const std::span<const float> used = adjusted(logits, {}, kernels);
    const float top = kernels.max(used.data(), int(used.size()));
    if (!std::isfinite(top)) return -1;
    if (options_.temperature > 0 && !(uniform() * most_kept(used, top, kernels) < 1 - kRounding)) return -1;
    return index_of(top, used);
}

// The logits with mask, bias and penalties; those of the caller where there are none.
std::span<const float> Sampler::adjusted(std::span<const float> logits, std::span<const uint32_t> mask, const Kernels& kernels) {
    if (!std::isfinite(kernels.max(logits.data(), int(logits.size())))) throw NotNumbers();
    if (mask.empty() && !has_penalties() && options_.bias.empty()) return logits;
    if (mask.empty())
        adjusted_.assign(logits.begin(), logits.end());
    else
        copy_allowed(logits, mask, adjusted_);
    adjust();
    return adjusted_;
}

Choice Sampler::sample(std::span<const float> logits, const Kernels& kernels, int n_alternatives, std::span<const uint32_t> mask) {
    const std::span<const float> used = adjusted(logits, mask, kernels);
    const float top = kernels.max(used.data(), int(used.size()));
    if (top == kImpossible) throw NothingAllowed();
    if (!std::isfinite(top)) throw NotNumbers();
    return take(logits, kernels, n_alternatives, options_.temperature > 0 ? draw(used, top, kernels) : index_of(top, used));
}

Choice Sampler::take(std::span<const float> logits, const Kernels& kernels, int n_alternatives, int32_t token) {
    if (options_.temperature > 0) ++draws_;
    history_.push_back(token);
    Choice choice{token, 0, {}};
    if (n_alternatives < 0) return choice;
    const LogSoftmax log_softmax(logits, kernels, exponentials_);
    choice.logprob = log_softmax(logits[token]);
    if (n_alternatives > 0) keep_best(logits, kernels, size_t(n_alternatives));
    for (int i = 0; i < n_alternatives && size_t(i) < best_.size(); ++i)
        choice.alternatives.emplace_back(best_[i].token, log_softmax(best_[i].logit));
    return choice;
}

}  // namespace madang
