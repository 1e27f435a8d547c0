// A fit for each type: which search, over which levels. Ends with the table of this instruction set.

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
    const Lanes<32> v = load_lanes<32>(values, weights);
    const F32 d = best_half<Levels>(v, fit_scale<Levels>(v));
    put_halves<1>(d, &BlockFields::scale, fields);
    put_quants<Levels, 32, 1>(v, d, zero(), fields);
}

template <class Levels>
static void fit_simple_line(const float* values, const float* weights, BlockFields* fields) {
    const Lanes<32> v = load_lanes<32>(values, weights);
    const F32 w = weight_of(v);
    Line line = fit_line<Levels>(v, w, zero());
    line.d = as_half(line.d);
    line.m = as_half(add(line.m, residual<Levels>(v, w, line).shift(zero())));
    put_halves<1>(line.d, &BlockFields::scale, fields);
    put_halves<1>(line.m, &BlockFields::min, fields);
    put_quants<Levels, 32, 1>(v, line.d, line.m, fields);
}

template <class Levels, int n, int high>
static void fit_super_scale(const float* values, const float* weights, BlockFields* fields) {
    constexpr int group = 256 / n;
    const Lanes<n> v = load_lanes<n>(values, weights);
    const SmallScales s = fit_small_scales<Levels, n, group>(v, -high - 1, high);
    put_halves<group>(s.factor, &BlockFields::scale, fields);
    put_integers<group>(s.scale, &BlockFields::small_scales, fields);
    put_quants<Levels, n, group>(v, s.d(), zero(), fields);
}

template <class Levels, int n, int high>
static void fit_super_line(const float* values, const float* weights, BlockFields* fields) {
    constexpr int group = 256 / n;
    const Lanes<n> v = load_lanes<n>(values, weights);
    const SmallLines s = fit_small_lines<Levels, n, group>(v, high);
    put_halves<group>(s.factor, &BlockFields::scale, fields);
    put_halves<group>(s.min_factor, &BlockFields::min, fields);
    put_integers<group>(s.scale, &BlockFields::small_scales, fields);
    put_integers<group>(s.min, &BlockFields::small_mins, fields);
    put_quants<Levels, n, group>(v, s.line().d, s.line().m, fields);
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
