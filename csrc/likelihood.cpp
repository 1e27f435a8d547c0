#include "likelihood.h"

#include <algorithm>
#include <cmath>

namespace madang {

namespace {

// In eight sums, so that the compiler may use vectors without changing the order.
double sum(std::span<const float> values) {
    constexpr size_t kSums = 8;
    double sums[kSums] = {};
    size_t i = 0;
    for (; i + kSums <= values.size(); i += kSums)
        for (size_t j = 0; j < kSums; ++j) sums[j] += values[i + j];
    for (; i < values.size(); ++i) sums[0] += values[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

}  // namespace

LogSoftmax::LogSoftmax(std::span<const float> logits, const Kernels& kernels, std::vector<float>& scratch)
    : top_(kernels.max(logits.data(), int(logits.size()))) {
    scratch.resize(logits.size());
    kernels.exponentials(logits.data(), top_, 1, scratch.data(), int(logits.size()));
    log_sum_ = std::log(sum(scratch));
    if (!std::isfinite(top_) || !std::isfinite(log_sum_)) throw NotNumbers();
}

Divergence divergence(std::span<const float> reference, std::span<const float> logits, int target, const Kernels& kernels) {
    if (target < 0 || size_t(target) >= reference.size()) throw std::invalid_argument("a token id is outside of the vocabulary");
    std::vector<float> weights, scratch;
    const LogSoftmax of_reference(reference, kernels, weights), of_logits(logits, kernels, scratch);
    // sum of w (a - b) over sum of w, where p = w / sum of w; a and b are logits: their constants are added at the end.
    double gaps[8] = {}, sums[8] = {};
    for (size_t i = 0; i < reference.size(); ++i) {
        const double w = weights[i];
        gaps[i % 8] += w * (double(reference[i]) - double(logits[i]));
        sums[i % 8] += w;
    }
    double gap = 0, sum = 0;
    for (int j = 0; j < 8; ++j) gap += gaps[j], sum += sums[j];
    const auto best = [](std::span<const float> row) { return std::max_element(row.begin(), row.end()) - row.begin(); };
    return {gap / sum + of_logits.log_total() - of_reference.log_total(), double(reference[size_t(target)]) - of_reference.log_total(),
            double(logits[size_t(target)]) - of_logits.log_total(), best(reference) == best(logits)};
}

}  // namespace madang
