#include "likelihood.h"

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

}  // namespace madang
