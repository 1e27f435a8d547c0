// The model's own distribution over the next token: natural logarithms of the softmax of a row of logits.
#pragma once
#include <span>
#include <stdexcept>
#include <vector>

#include "kernels/kernels.h"

namespace madang {

// The model computed NaN or infinity: damaged weights, or an overflow.
struct NotNumbers : std::runtime_error {
    NotNumbers() : std::runtime_error("the model's logits are not finite numbers") {}
};

// One sum serves samplers and scorers, so that a token that was drawn and the same token scored have the same bits.
class LogSoftmax {
public:
    // `scratch` is resized to the row; the exponentials are summed in float64. Throws NotNumbers.
    LogSoftmax(std::span<const float> logits, const Kernels& kernels, std::vector<float>& scratch);

    float operator()(float logit) const { return float(double(logit - top_) - log_sum_); }

    // The logarithm of the sum of all exponentials: of a logit l, the log-probability is l minus this.
    double log_total() const { return double(top_) + log_sum_; }

private:
    float top_;
    double log_sum_;
};

struct Divergence {
    double kl;  // of the row from the reference, in nats
    double reference_logprob, logprob;  // of the target
    bool agrees;  // the likeliest token is the same
};

// What one row of logits loses against another. Throws NotNumbers, std::invalid_argument for a target outside of the row.
Divergence divergence(std::span<const float> reference, std::span<const float> logits, int target, const Kernels& kernels);

}  // namespace madang
