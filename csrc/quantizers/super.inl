// Super-blocks: blocks of `group` neighbouring lanes share float16 factors, and have small integers of their own beside them.
//
// Rounding those integers moves every scale, so they are chosen by the error of the quants that follow from them: over several
// factors, over the integers next to the rounded ones, and over the factors' least-squares fit to the result, in turns.

struct SmallScales {
    F32 factor, scale;  // float16 and integer values
    F32 d() const { return mul(factor, scale); }
};

// Keeps `found` in groups where it leaves less.
template <int group>
static void keep_better(SmallScales& best, F32& error, const SmallScales& found, F32 lane_error) {
    const F32 e = group_sum<group>(lane_error);
    best = {choose(e, error, best.factor, found.factor), choose(e, error, best.scale, found.scale)};
    error = min(error, e);
}

// Tries the integers next to each lane's, and returns the lanes' errors.
template <class Levels, int n>
static F32 step_scales(const Lanes<n>& v, SmallScales& s, float low, float high) {
    F32 best = s.scale, error = error_of<Levels>(v, s.d());
    for (const float step : {-1.0f, 1.0f}) {
        const F32 scale = clamp(add(s.scale, broadcast(step)), low, high);
        const F32 e = error_of<Levels>(v, mul(s.factor, scale));
        best = choose(e, error, best, scale);
        error = min(error, e);
    }
    s.scale = best;
    return error;
}

// Scales are integers from low to high, with low = -high - 1.
template <class Levels, int n, int group>
static SmallScales fit_small_scales(const Lanes<n>& v, float low, float high) {
    const F32 d = fit_scale<Levels>(v), top = group_top<group>(d);
    SmallScales best{zero(), zero()};
    F32 error = broadcast(3e38f);
    const int n_factors = high > 100 ? 2 : 8;
    for (const float outermost : {low, high}) {
        for (int i = 0; i < n_factors; ++i) {
            const F32 factor = as_factor(quotient(top, broadcast(outermost * (1 - 0.025f * float(i)))));
            const SmallScales s{factor, clamp(nearest(clamp(quotient(d, factor), -1000, 1000)), low, high)};
            keep_better<group>(best, error, s, error_of<Levels>(v, s.d()));
        }
    }
    for (int round = 0; round < 2; ++round) {
        keep_better<group>(best, error, best, step_scales<Levels>(v, best, low, high));
        const ScaleResidual r = residual<Levels>(v, best.d());
        const F32 rq = group_sum<group>(mul(r.rq, best.scale)), qq = group_sum<group>(mul(mul(r.qq, best.scale), best.scale));
        SmallScales fitted{as_factor(add(best.factor, quotient(rq, qq))), best.scale};
        keep_better<group>(best, error, fitted, step_scales<Levels>(v, fitted, low, high));
    }
    return best;
}

struct SmallLines {
    F32 factor, min_factor, scale, min;  // float16 and integer values
    Line line() const { return {mul(factor, scale), negated(mul(min_factor, min))}; }
};

template <int group>
static void keep_better(SmallLines& best, F32& error, const SmallLines& found, F32 lane_error) {
    const F32 e = group_sum<group>(lane_error);
    const auto better = [&](F32 old, F32 fresh) { return choose(e, error, old, fresh); };
    best = {better(best.factor, found.factor), better(best.min_factor, found.min_factor), better(best.scale, found.scale),
            better(best.min, found.min)};
    error = min(error, e);
}

// The lanes' scales and minima that suit the factors best, and the errors that they leave. `m` is about the minimum.
template <class Levels, int n>
static F32 step_lines(const Lanes<n>& v, F32 w, SmallLines& s, F32 m, float high, int reach) {
    const F32 middle = s.scale;
    F32 error = broadcast(3e38f);
    for (int step = -reach; step <= reach; ++step) {
        SmallLines tried = s;
        tried.scale = clamp(add(middle, broadcast(float(step))), 0, high);
        const Line line{mul(s.factor, tried.scale), m};
        const F32 wanted = negated(add(m, residual<Levels>(v, w, line).shift(zero())));
        const F32 below = nearest(clamp(sub(quotient(wanted, s.min_factor), broadcast(reach ? 0.5f : 0)), -1, 100));
        for (int up = 0; up <= (reach ? 1 : 0); ++up) {
            tried.min = clamp(add(below, broadcast(float(up))), 0, high);
            const F32 e = residual<Levels>(v, w, tried.line()).rr;
            s.scale = choose(e, error, s.scale, tried.scale);
            s.min = choose(e, error, s.min, tried.min);
            error = min(error, e);
        }
    }
    return error;
}

// The float16 factors that fit the lanes' integers and quants best, together.
template <class Levels, int n, int group>
static SmallLines refitted(const Lanes<n>& v, F32 w, const SmallLines& s) {
    const LineResidual r = residual<Levels>(v, w, s.line());
    const auto sum = [](F32 x) { return group_sum<group>(x); };
    // Of r to a (scale q) - b min, by the changes a and b of the factors.
    const F32 ra = sum(mul(r.rq, s.scale)), rb = negated(sum(mul(r.r, s.min)));
    const F32 aa = sum(mul(mul(r.qq, s.scale), s.scale)), bb = sum(mul(mul(r.w, s.min), s.min));
    const F32 ab = negated(sum(mul(mul(r.q, s.scale), s.min)));
    const F32 determinant = sub(mul(aa, bb), mul(ab, ab));
    const F32 usable = sub(determinant, mul(broadcast(1e-6f), mul(aa, bb)));  // where all minima are 0, or all quants alike
    const F32 a = choose(usable, broadcast(kTiny), quotient(sub(mul(ra, bb), mul(rb, ab)), determinant), quotient(ra, aa));
    const F32 b = choose(usable, broadcast(kTiny), quotient(sub(mul(rb, aa), mul(ra, ab)), determinant), zero());
    return {as_factor(add(s.factor, a)), as_factor(add(s.min_factor, b)), s.scale, s.min};
}

// Scales and minima are integers from 0 to high.
template <class Levels, int n, int group>
static SmallLines fit_small_lines(const Lanes<n>& v, float high) {
    const F32 w = weight_of(v);
    // Minima are subtracted; only where all values of a super-block are positive are they better added.
    F32 low = v.x[0];
    for (int i = 1; i < n; ++i) low = min(low, v.x[i]);
    const F32 n_positive = group_sum<group>(choose(low, zero(), broadcast(1), zero()));
    const F32 side = choose(n_positive, broadcast(group), broadcast(-1), broadcast(1));
    const Line line = fit_line<Levels>(v, w, side);
    const F32 top = group_top<group>(line.d), top_min = negated(group_top<group>(line.m));
    SmallLines best{zero(), zero(), zero(), zero()};
    F32 error = broadcast(3e38f);
    const float shrink = high > 20 ? 0.015f : 0.04f;
    for (int i = 0; i < 5; ++i) {
        const F32 factor = as_factor(mul(top, broadcast(1 / (high * (1 - shrink * float(i))))));
        for (int k = 0; k < 3; ++k) {
            const F32 min_factor = as_factor(mul(top_min, broadcast(1 / (high * (1 - shrink * float(k))))));
            SmallLines s{factor, min_factor, clamp(nearest(clamp(quotient(line.d, factor), 0, 1000)), 0, high), zero()};
            const F32 e = step_lines<Levels>(v, w, s, line.m, high, 0);
            keep_better<group>(best, error, s, e);
        }
    }
    for (int round = 0; round < 2; ++round) {
        SmallLines stepped = best;
        F32 e = step_lines<Levels>(v, w, stepped, best.line().m, high, 1);
        keep_better<group>(best, error, stepped, e);
        SmallLines fitted = refitted<Levels, n, group>(v, w, best);
        e = residual<Levels>(v, w, fitted.line()).rr;
        keep_better<group>(best, error, fitted, e);
    }
    return best;
}
