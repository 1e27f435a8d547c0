#include "quantizers.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "../cpu.h"
#include "../half.h"

namespace madang {

namespace {

// Columns that importance calls worthless still count this much of the mean: the text it comes from was not all text.
constexpr double kLeastImportance = 1e-4;

// Below so many bits errors are too large for the mean square of an input to be what they cost: the few tokens with huge inputs
// lose no more than all they have. The power 3/4 of it serves better there (benchmarks/quantizers.py), and the roots are exact
// on every machine.
constexpr double kFewBits = 5;

double dampened(double importance) { return std::sqrt(importance) * std::sqrt(std::sqrt(importance)); }

// What an error in each column costs: of mean 1, so that sums stay in float's range whatever the importance is of.
std::vector<float> column_weights(const RowsToQuantize& rows, const TypeTraits& traits) {
    std::vector<float> weights(rows.columns, 1.0f);
    if (!rows.importance) return weights;
    double sum = 0;
    for (int64_t c = 0; c < rows.columns; ++c) sum += double(rows.importance[c]);
    const double mean = sum / double(rows.columns);
    if (!(mean > 0)) return weights;
    const bool few_bits = 8.0 * traits.block_bytes / traits.block_elements < kFewBits;
    for (int64_t c = 0; c < rows.columns; ++c) {
        const double share = std::max(double(rows.importance[c]) / mean, kLeastImportance);
        weights[c] = float(few_bits && !rows.passed_on ? dampened(share) : share);
    }
    return weights;
}

// What a fit was given of a block's columns, transposed to lanes or not: see Fit.
struct FitInput {
    alignas(64) float x[kLanes * 32], w[kLanes * 32];
};

// Rounds kLanes rows with error feedback: block after block, scales first and then quants, on a copy of what the rows still
// have to say. Lanes are rows here; the fits want sub-blocks in them.
class FeedbackRounder {
public:
    FeedbackRounder(const Quantizers& quantizers, Type type, const RowsToQuantize& rows, const std::vector<float>& weights)
        : traits_(*find_traits(uint32_t(type))), shape_(fit_shape(type)), fit_(quantizers.fit_of(type)), pack_(packer_of(type)),
          round_(quantizers.rounder_of(type)), pass_on_(quantizers.pass_on), rows_(rows), weights_(weights),
          has_minima_(type == Type::Q4_1 || type == Type::Q5_1 || type == Type::Q2_K || type == Type::Q4_K || type == Type::Q5_K),
          values_(size_t(rows.columns) * kLanes), errors_(size_t(traits_.block_elements) * kLanes),
          quants_(size_t(traits_.block_elements) * kLanes) {}

    void run(int64_t first_row, uint8_t* blocks) {
        const int n_rows = int(std::min<int64_t>(kLanes, rows_.rows - first_row));
        std::fill(values_.begin(), values_.end(), 0.0f);
        for (int row = 0; row < n_rows; ++row)
            for (int64_t c = 0; c < rows_.columns; ++c) values_[c * kLanes + row] = rows_.values[(first_row + row) * rows_.columns + c];
        const int columns = traits_.block_elements;
        const int64_t row_bytes = rows_.columns / columns * traits_.block_bytes;
        for (int64_t begin = 0; begin < rows_.columns; begin += columns) {
            float* own = values_.data() + begin * kLanes;
            fit_block(own, begin);
            const RowsOfBlock block{own, scales_, mins_, columns, shape_.columns, errors_.data(), quants_.data()};
            round_(block, rows_.passed_on + begin * rows_.columns + begin, rows_.columns);
            const int64_t end = begin + columns;
            if (end < rows_.columns)
                pass_on_(block, rows_.passed_on + end * rows_.columns + begin, rows_.columns, values_.data() + end * kLanes,
                         rows_.columns - end);
            for (int row = 0; row < n_rows; ++row) {
                for (int c = 0; c < columns; ++c) fields_[row].quants[c] = quants_[size_t(c) * kLanes + row];
                pack_(fields_[row], blocks + (first_row + row) * row_bytes + begin / columns * traits_.block_bytes);
            }
        }
    }

private:
    // Chooses the scales of all rows' blocks from what is left of their values.
    void fit_block(const float* own, int64_t begin) {
        const int per_fit = shape_.blocks(), columns = traits_.block_elements;
        for (int first = 0; first < kLanes; first += per_fit) {
            for (int b = 0; b < per_fit; ++b)
                for (int c = 0; c < columns; ++c) {
                    input_.x[b * columns + c] = own[size_t(c) * kLanes + first + b];
                    input_.w[b * columns + c] = weights_[begin + c];
                }
            fit_(input_.x, input_.w, fields_ + first);
        }
        for (int row = 0; row < kLanes; ++row) {
            const BlockFields& f = fields_[row];
            const float scale = half_to_float(f.scale), min = has_minima_ ? half_to_float(f.min) : 0.0f;
            for (int s = 0; s < shape_.per_block; ++s) {
                const bool super = shape_.per_block > 1;
                scales_[s * kLanes + row] = super ? scale * float(f.small_scales[s]) : scale;
                mins_[s * kLanes + row] = super ? -(min * float(f.small_mins[s])) : min;
            }
        }
    }

    const TypeTraits& traits_;
    const FitShape shape_;
    const Fit fit_;
    const PackBlock pack_;
    const RoundRows round_;
    const PassOn pass_on_;
    const RowsToQuantize& rows_;
    const std::vector<float>& weights_;
    const bool has_minima_;
    std::vector<float> values_, errors_;
    std::vector<uint8_t> quants_;
    FitInput input_;
    BlockFields fields_[kLanes];
    float scales_[16 * kLanes], mins_[16 * kLanes];
};

}  // namespace

FitShape fit_shape(Type type) {
    switch (type) {
        case Type::Q2_K: case Type::Q3_K: case Type::Q6_K: return {16, 16};
        case Type::Q4_K: case Type::Q5_K: case Type::IQ4_XS: return {32, 8};
        default: return {32, 1};
    }
}

void quantize_rows(const Quantizers& quantizers, Type type, const RowsToQuantize& rows, ThreadPool& pool, uint8_t* blocks) {
    const Fit fit = quantizers.fit_of(type);
    const PackBlock pack = packer_of(type);
    if (!fit || !pack) throw std::invalid_argument("tensor type " + std::to_string(uint32_t(type)) + " has no quantizer");
    const TypeTraits& traits = *find_traits(uint32_t(type));
    const FitShape shape = fit_shape(type);
    const std::vector<float> weights = column_weights(rows, traits);
    const int64_t n_elements = rows.rows * rows.columns, n_blocks = n_elements / traits.block_elements;

    if (rows.passed_on) {
        const int64_t n_groups = (rows.rows + kLanes - 1) / kLanes;
        pool.run([&](int) {
            FeedbackRounder rounder(quantizers, type, rows, weights);
            pool.share(int(n_groups), 1, [&](Range groups) {
                for (int64_t g = groups.begin; g < groups.end; ++g) rounder.run(g * kLanes, blocks);
            });
        });
        return;
    }
    const auto quantize_group = [&](int64_t group) {
        const int64_t first = group * shape.elements(), end = std::min(first + shape.elements(), n_elements);
        alignas(64) float x[kLanes * 32] = {}, w[kLanes * 32];
        std::fill(std::begin(w), std::end(w), 1.0f);
        std::copy(rows.values + first, rows.values + end, x);
        for (int64_t i = first, column = first % rows.columns; i < end; ++i) {
            w[i - first] = weights[column];
            if (++column == rows.columns) column = 0;
        }
        BlockFields fields[kLanes];
        fit(x, w, fields);
        const int64_t first_block = first / traits.block_elements;
        for (int64_t b = first_block; b < std::min(first_block + shape.blocks(), n_blocks); ++b)
            pack(fields[b - first_block], blocks + b * traits.block_bytes);
    };
    const int64_t n_groups = (n_elements + shape.elements() - 1) / shape.elements();
    pool.run([&](int) {
        pool.share(int(n_groups), 16, [&](Range groups) {
            for (int g = groups.begin; g < groups.end; ++g) quantize_group(g);
        });
    });
}

const Quantizers& select_quantizers(const std::string& isa) {
    const std::string name = select_kernels(isa).name;
#if defined(MADANG_X86)
    if (name.starts_with("avx512")) return kAvx512Quantizers;
    if (name.starts_with("avx2")) return kAvx2Quantizers;
#elif defined(MADANG_ARM64)
    if (name == "neon") return kNeonQuantizers;
#endif
    return kPortableQuantizers;
}

}  // namespace madang
