// Every kernel of every instruction set that can run here, against plain double arithmetic on random data.
//
// Prints a line for each instruction set, and one for each failure; the exit status is 1 after any.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "cpu.h"
#include "half.h"
#include "layout.h"

using namespace madang;

namespace {

constexpr int kTokens = 13;  // tiles of every size
int failures = 0;

void expect(bool good, const char* isa, const std::string& what) {
    if (good) return;
    ++failures;
    std::printf("FAILED on %s: %s\n", isa, what.c_str());
}

using Floats = std::vector<float>;

Floats random_floats(size_t n, std::mt19937& rng, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    Floats values(n);
    for (float& value : values) value = normal(rng);
    return values;
}

PackedMatrix packed(const TypeTraits& traits, int rows, int columns, const std::vector<uint8_t>& file, bool& finite) {
    PackedMatrix matrix = allocate_matrix(traits, rows, columns);
    finite = true;
    for (int g = 0; g < matrix.groups(); ++g) finite &= pack_group(matrix, g, file.data());
    return matrix;
}

// One block of random bits whose values are numbers of a common size: others make any error look small.
void random_block(const TypeTraits& traits, uint8_t* out, std::mt19937& rng) {
    Floats values(size_t(traits.block_elements));
    while (true) {
        std::vector<uint8_t> bytes(size_t(traits.block_bytes));
        for (uint8_t& byte : bytes) byte = uint8_t(rng());
        bool finite;
        const PackedMatrix block = packed(traits, 1, traits.block_elements, bytes, finite);
        if (!finite) continue;
        unpack_row(block, 0, values.data());
        float largest = 0;
        for (const float value : values) largest = std::max(largest, std::fabs(value));
        if (largest < 1e-2f || largest > 1e2f) continue;
        std::copy(bytes.begin(), bytes.end(), out);
        return;
    }
}

// Rows of activations in every form.
struct Input {
    int columns;
    Floats floats, scales, sums;
    std::vector<uint16_t> bfloats;
    std::vector<int8_t> quants;
    std::vector<uint8_t> wide;

    Input(const Kernels& kernels, Floats rows, int n_columns, float outlier) : columns(n_columns), floats(std::move(rows)) {
        const size_t n = floats.size(), blocks = n / kBlock;
        scales.resize(blocks);
        sums.resize(2 * blocks);
        bfloats.resize(n);
        quants.resize(2 * n);
        wide.resize(blocks);
        kernels.to_bfloat(floats.data(), int(n), bfloats.data());
        for (size_t at = 0; at < n; at += size_t(columns)) {
            const size_t b = at / kBlock;
            kernels.quantize(&floats[at], columns, outlier, {&quants[2 * at], &wide[b], &scales[b], &sums[2 * b]});
        }
    }

    Activations activations(int token) const {
        const size_t at = size_t(token) * columns, b = at / kBlock;
        return {columns, &floats[at], &bfloats[at], &quants[2 * at], &wide[b], &scales[b], &sums[2 * b]};
    }
};

// How far a product may be off: half a step of each quantized activation, and the rounding of sums.
double tolerance(const Kernels& kernels, const PackedMatrix& matrix, const Input& in, int token, const float* weights) {
    const bool quantized = is_quantized(matrix.type()), bfloats = matrix.type() == Type::BF16 && kernels.wants_bfloats;
    double steps = 0, magnitude = 0;
    for (int c = 0; c < in.columns; ++c) {
        const size_t at = size_t(token) * in.columns + c;
        const double weight = std::fabs(weights[c]);
        steps += weight * in.scales[at / kBlock] * (in.wide[at / kBlock] ? 0.51 : 64.1);
        magnitude += weight * std::fabs(in.floats[at]);
    }
    return (quantized ? steps : 0) + magnitude * (bfloats ? 4e-3 : 3e-6) + 1e-6;
}

void test_products(const Kernels& kernels, const TypeTraits& traits, int rows, int columns, float outlier, std::mt19937& rng) {
    const std::string name = "type " + std::to_string(unsigned(traits.file_type)) + ", " + std::to_string(rows) + " x " + std::to_string(columns);
    std::vector<uint8_t> file(size_t(rows) * columns / traits.block_elements * traits.block_bytes);
    for (size_t at = 0; at < file.size(); at += size_t(traits.block_bytes)) random_block(traits, &file[at], rng);
    bool finite;
    const PackedMatrix matrix = packed(traits, rows, columns, file, finite);
    const Input in(kernels, random_floats(size_t(kTokens) * columns, rng), columns, outlier);
    Floats together(size_t(kTokens) * matrix.padded_rows()), alone(size_t(matrix.padded_rows())), weights(size_t(columns), 0.0f);
    kernels.multiply(matrix, {0, matrix.groups()}, in.activations(0), {0, kTokens}, {together.data(), matrix.padded_rows(), false});
    for (int t = 0; t < kTokens; ++t) {
        const float* out = &together[size_t(t) * matrix.padded_rows()];
        kernels.multiply(matrix, {0, matrix.groups()}, in.activations(t), {0, 1}, {alone.data(), matrix.padded_rows(), false});
        for (int row = 0; row < rows; ++row) {
            unpack_row(matrix, row, weights.data());
            double sum = 0;
            for (int c = 0; c < columns; ++c) sum += double(weights[c]) * in.floats[size_t(t) * columns + c];
            expect(std::fabs(out[row] - sum) <= tolerance(kernels, matrix, in, t, weights.data()), kernels.name,
                   name + ": " + std::to_string(out[row]) + " instead of " + std::to_string(sum));
            expect(out[row] == alone[row], kernels.name, name + ": other bits alone than in a batch");
        }
    }
}

void test_rows(const Kernels& kernels, std::mt19937& rng) {
    constexpr int n = 160;
    const auto close = [&](float actual, double expected, const char* what) {
        expect(std::fabs(actual - expected) <= 2e-6 * std::fabs(expected) + 1e-7, kernels.name, what);
    };
    const Floats x = random_floats(n, rng, 10), w = random_floats(n, rng);
    Floats y(n);
    double squares = 0, sum = 0;
    for (const float value : x) squares += double(value) * value;
    kernels.rms_norm(x.data(), w.data(), y.data(), n, 1e-5f);
    for (int i = 0; i < n; ++i) close(y[i], x[i] / std::sqrt(squares / n + 1e-5) * w[i], "rms_norm");
    y = x;
    kernels.silu_multiply(y.data(), w.data(), n);
    for (int i = 0; i < n; ++i) close(y[i], x[i] / (1 + std::exp(-double(x[i]))) * w[i], "silu_multiply");
    const float top = *std::max_element(x.begin(), x.end());
    expect(kernels.max(x.data(), n - 3) == *std::max_element(x.begin(), x.end() - 3), kernels.name, "max");
    const float total = kernels.exponentials(x.data(), top, 0.5f, y.data(), n - 3);
    for (int i = 0; i < n - 3; ++i) {
        close(y[i], std::exp((double(x[i]) - top) * 0.5), "exponentials");
        sum += y[i];
    }
    close(total, sum, "sum of exponentials");
    std::vector<uint16_t> halves(n);
    kernels.to_half(x.data(), n, halves.data());
    for (int i = 0; i < n; ++i) expect(halves[i] == float_to_half(x[i]), kernels.name, "to_half");
}

// 40 positions on scattered pages; queries that see different ranges.
void test_attention(const Kernels& kernels, std::mt19937& rng) {
    constexpr int head_dim = 40, stride = 48, n_queries = 3;
    const int32_t table[] = {2, 0, 1};
    const int first[] = {0, 7, 0}, last[] = {39, 21, 0};
    const size_t page = size_t(kPageTokens) * (head_dim + stride);
    Floats queries = random_floats(n_queries * head_dim, rng, 0.3f), outputs(n_queries * stride);
    std::vector<uint16_t> cache(3 * page);
    for (uint16_t& half : cache) half = float_to_half(random_floats(1, rng)[0]);
    const uint16_t* pages[] = {&cache[0], &cache[page], &cache[2 * page]};
    const float* rows[] = {&queries[0], &queries[head_dim], &queries[2 * head_dim]};
    float* outs[] = {&outputs[0], &outputs[stride], &outputs[2 * stride]};
    Floats scratch(size_t(attention_scratch_floats(head_dim)));
    kernels.attend({n_queries, head_dim, stride, rows, first, last, table, pages, 0, size_t(kPageTokens) * head_dim, outs, scratch.data()});
    for (int q = 0; q < n_queries; ++q) {
        std::vector<double> expected(head_dim, 0.0);
        double total = 0;
        for (int p = first[q]; p <= last[q]; ++p) {
            const uint16_t *keys = pages[table[p / kPageTokens]], *values = keys + kPageTokens * head_dim + p % kPageTokens * stride;
            double score = 0;
            for (int d = 0; d < head_dim; ++d) score += double(rows[q][d]) * half_to_float(keys[d * kPageTokens + p % kPageTokens]);
            total += std::exp(score);
            for (int d = 0; d < head_dim; ++d) expected[d] += std::exp(score) * half_to_float(values[d]);
        }
        for (int d = 0; d < head_dim; ++d)
            expect(std::fabs(outs[q][d] - expected[d] / total) < 1e-5, kernels.name, "attend");
    }
}

}  // namespace

int main() {
    for (const std::string& isa : available_isas()) {
        const Kernels& kernels = select_kernels(isa);
        std::mt19937 rng(1);
        for (const TypeTraits& traits : all_traits())
            for (const int n_blocks : {1, 3}) {
                const int columns = n_blocks * std::max(traits.block_elements, 32);
                test_products(kernels, traits, 21, columns, 0, rng);
                test_products(kernels, traits, 16, columns, 1.2f, rng);
            }
        test_rows(kernels, rng);
        test_attention(kernels, rng);
        std::printf("%s: %d failures so far\n", isa.c_str(), failures);
    }
    return failures > 0;
}
