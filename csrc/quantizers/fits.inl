// A fit for each type: which search, over which levels. Ends with the table of this instruction set.
//
// Least squares shrinks: what it leaves is at right angles to what it gives, so that a row loses a share of its own length,
// as large as its relative error. An input makes more of that than of any other error, because rows have learned to lie where
// their inputs do. So each block is made longer by a part of that share: the quants stay, the scales grow. The part is between
// what is best for weights as they were trained (about 0.75 to 0.9) and for rotated ones (0.25 to 0.5); benchmarks/quantizers.py.

constexpr float kRestoredShare = 0.6f;

// What to multiply scales and minima of each group with, so that `error` does not come out of the values' length.
template <int group, int n>
static F32 stretch(const Lanes<n>& v, F32 error) {
    F32 square = zero();
    for (int i = 0; i < n; ++i) square = add(square, mul(v.w[i], mul(v.x[i], v.x[i])));
    return add(broadcast(1), mul(broadcast(kRestoredShare), quotient(group_sum<group>(error), group_sum<group>(square))));
}

template <int n>
static void scale_values(Lanes<n>& v, F32 factor) {
    for (int i = 0; i < n; ++i) v.x[i] = mul(v.x[i], factor);
}

template <class Levels, int n, int group>
static void put_quants(const Lanes<n>& v, F32 d, F32 m, BlockFields* fields) {
    const F32 id = inverse(d);
    for (int i = 0; i < n; ++i) {
        float levels[16];
        store(levels, Levels::level(mul(sub(v.x[i], m), id)));
        for (int lane = 0; lane < 16; ++lane) fields[lane / group].quants[lane % group * n + i] = Levels::index(levels[lane]);
    }
}

template <int group>
static void put_halves(F32 x, uint16_t BlockFields::* field, BlockFields* fields) {
    uint16_t halves[16];
    store_half(halves, x);
    for (int lane = 0; lane < 16; lane += group) fields[lane / group].*field = halves[lane];
}

template <int group, class Integers>
static void put_integers(F32 x, Integers BlockFields::* field, BlockFields* fields) {
    float integers[16];
    store(integers, x);
    for (int lane = 0; lane < 16; ++lane) (fields[lane / group].*field)[lane % group] = int8_t(integers[lane]);
}

template <class Levels>
static void fit_simple_scale(const float* values, const float* weights, BlockFields* fields) {
    Lanes<32> v = load_lanes<32>(values, weights);
    const F32 fitted = fit_scale<Levels>(v), longer = stretch<1>(v, error_of<Levels>(v, fitted));
    scale_values(v, longer);
    const F32 d = best_half<Levels>(v, mul(fitted, longer));
    put_halves<1>(d, &BlockFields::scale, fields);
    put_quants<Levels, 32, 1>(v, d, zero(), fields);
}

template <class Levels>
static void fit_simple_line(const float* values, const float* weights, BlockFields* fields) {
    Lanes<32> v = load_lanes<32>(values, weights);
    const F32 w = weight_of(v);
    Line line = fit_line<Levels>(v, w, zero());
    const F32 longer = stretch<1>(v, residual<Levels>(v, w, line).rr);
    scale_values(v, longer);
    line = {as_half(mul(line.d, longer)), mul(line.m, longer)};
    line.m = as_half(add(line.m, residual<Levels>(v, w, line).shift(zero())));
    put_halves<1>(line.d, &BlockFields::scale, fields);
    put_halves<1>(line.m, &BlockFields::min, fields);
    put_quants<Levels, 32, 1>(v, line.d, line.m, fields);
}

template <class Levels, int n, int high>
static void fit_super_scale(const float* values, const float* weights, BlockFields* fields) {
    constexpr int group = 256 / n;
    Lanes<n> v = load_lanes<n>(values, weights);
    SmallScales s = fit_small_scales<Levels, n, group>(v, -high - 1, high);
    const F32 longer = stretch<group>(v, error_of<Levels>(v, s.d()));
    scale_values(v, longer);
    s.factor = as_factor(mul(s.factor, longer));
    put_halves<group>(s.factor, &BlockFields::scale, fields);
    put_integers<group>(s.scale, &BlockFields::small_scales, fields);
    put_quants<Levels, n, group>(v, s.d(), zero(), fields);
}

template <class Levels, int n, int high>
static void fit_super_line(const float* values, const float* weights, BlockFields* fields) {
    constexpr int group = 256 / n;
    Lanes<n> v = load_lanes<n>(values, weights);
    SmallLines s = fit_small_lines<Levels, n, group>(v, high);
    const F32 longer = stretch<group>(v, residual<Levels>(v, weight_of(v), s.line()).rr);
    scale_values(v, longer);
    s.factor = as_factor(mul(s.factor, longer));
    s.min_factor = as_factor(mul(s.min_factor, longer));
    put_halves<group>(s.factor, &BlockFields::scale, fields);
    put_halves<group>(s.min_factor, &BlockFields::min, fields);
    put_integers<group>(s.scale, &BlockFields::small_scales, fields);
    put_integers<group>(s.min, &BlockFields::small_mins, fields);
    put_quants<Levels, n, group>(v, s.line().d, s.line().m, fields);
}

template <class Levels>
static void round_rows(const RowsOfBlock& block, const float* passed_on, int64_t stride) {
    for (int column = 0; column < block.columns; ++column) {
        const int own = column / block.sub_columns;
        F32 x = load(block.values + column * kLanes);
        const float* shares = passed_on + column * stride;
        for (int before = 0; before < column; ++before)
            x = sub(x, mul(load(block.errors + before * kLanes), broadcast(shares[before])));
        const F32 d = load(block.scales + own * kLanes), m = load(block.mins + own * kLanes);
        const F32 q = Levels::level(mul(sub(x, m), inverse(d)));
        store(block.errors + column * kLanes, sub(x, add(mul(d, q), m)));
        float levels[16];
        store(levels, q);
        for (int lane = 0; lane < kLanes; ++lane) block.quants[column * kLanes + lane] = Levels::index(levels[lane]);
    }
}

static void pass_on(const RowsOfBlock& block, const float* passed_on, int64_t stride, float* values, int64_t n_columns) {
    for (int64_t column = 0; column < n_columns; ++column) {
        F32 x = load(values + column * kLanes);
        const float* shares = passed_on + column * stride;
        for (int from = 0; from < block.columns; ++from)
            x = sub(x, mul(load(block.errors + from * kLanes), broadcast(shares[from])));
        store(values + column * kLanes, x);
    }
}

static RoundRows rounder_of(Type type) {
    switch (type) {
        case Type::Q4_0: return round_rows<Uniform<-8, 7>>;
        case Type::Q5_0: return round_rows<Uniform<-16, 15>>;
        case Type::Q8_0: return round_rows<Signed>;
        case Type::Q2_K: return round_rows<Uniform<0, 3>>;
        case Type::Q3_K: return round_rows<Uniform<-4, 3>>;
        case Type::Q4_1: case Type::Q4_K: return round_rows<Uniform<0, 15>>;
        case Type::Q5_1: case Type::Q5_K: return round_rows<Uniform<0, 31>>;
        case Type::Q6_K: return round_rows<Uniform<-32, 31>>;
        case Type::IQ4_NL: case Type::IQ4_XS: return round_rows<Coded>;
        default: return nullptr;
    }
}

static Fit fit_of(Type type) {
    switch (type) {
        case Type::Q4_0: return fit_simple_scale<Uniform<-8, 7>>;
        case Type::Q4_1: return fit_simple_line<Uniform<0, 15>>;
        case Type::Q5_0: return fit_simple_scale<Uniform<-16, 15>>;
        case Type::Q5_1: return fit_simple_line<Uniform<0, 31>>;
        case Type::Q8_0: return fit_simple_scale<Signed>;
        case Type::Q2_K: return fit_super_line<Uniform<0, 3>, 16, 15>;
        case Type::Q3_K: return fit_super_scale<Uniform<-4, 3>, 16, 31>;
        case Type::Q4_K: return fit_super_line<Uniform<0, 15>, 32, 63>;
        case Type::Q5_K: return fit_super_line<Uniform<0, 31>, 32, 63>;
        case Type::Q6_K: return fit_super_scale<Uniform<-32, 31>, 16, 127>;
        case Type::IQ4_NL: return fit_simple_scale<Coded>;
        case Type::IQ4_XS: return fit_super_scale<Coded, 32, 31>;
        default: return nullptr;
    }
}
