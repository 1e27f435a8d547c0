// Weights that a thread will read in the next stage of a step. With few tokens memory is the limit, and while threads wait
// for each other at a barrier it would lie idle.
#pragma once
#include <algorithm>
#include <initializer_list>

#include "kernels/kernels.h"

namespace madang {

class Ahead {
public:
    explicit Ahead(const Kernels& kernels) : kernels_(kernels) {}

    // Adds groups of a matrix, as long as there is room in a core's own cache.
    void add(const PackedMatrix& matrix, Range groups) {
        const size_t n = size_t(std::max(0, groups.end - groups.begin)) * matrix.group_bytes;
        const size_t taken = std::min(n, size_t(kMostBytes) - bytes_);
        if (taken == 0 || n_spans_ == kMostSpans) return;
        spans_[n_spans_++] = {matrix.group(groups.begin), taken};
        bytes_ += taken;
    }

    // Asks for a little more; false when all has been asked for.
    bool fetch() {
        if (current_ == n_spans_) return false;
        Span& span = spans_[current_];
        const size_t n = std::min(span.bytes, size_t(kStepBytes));
        kernels_.fetch(span.data, n);
        span = {span.data + n, span.bytes - n};
        if (span.bytes == 0) ++current_;
        return current_ < n_spans_;
    }

private:
    static constexpr int kMostBytes = 192 << 10, kStepBytes = 16 << 10, kMostSpans = 4;
    struct Span {
        const uint8_t* data;
        size_t bytes;
    };
    const Kernels& kernels_;
    Span spans_[kMostSpans];
    int n_spans_ = 0, current_ = 0;
    size_t bytes_ = 0;
};

}  // namespace madang
