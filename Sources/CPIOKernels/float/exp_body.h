// `pio_exp` of every lane, for any vector of this folder: the same bits.
#ifndef PIO_EXP_BODY_H
#define PIO_EXP_BODY_H

// 2^n exp(r), bounded = n ln 2 + r.
INLINE vf v_exp_bounded(vf bounded) {
  vf n = v_round(v_mul(bounded, v_set(PIO_LOG2_E)));
  vf r = v_fma(n, v_set(-PIO_LN2_LOW), v_fma(n, v_set(-PIO_LN2_HIGH), bounded));
  vf q = v_fma(v_set(PIO_EXP_Q4), r, v_set(PIO_EXP_Q3));
  q = v_fma(q, r, v_set(PIO_EXP_Q2));
  q = v_fma(q, r, v_set(PIO_EXP_Q1));
  q = v_fma(q, r, v_set(PIO_EXP_Q0));
  return v_times_power(v_add(v_fma(v_mul(r, r), q, r), v_set(1)), n);
}

INLINE vf v_exp(vf x) {
  vf y = v_exp_bounded(v_min(v_set(PIO_EXP_HIGH), v_max(v_set(PIO_EXP_LOW), x)));
  y = v_if_less(x, v_set(PIO_EXP_LOW), v_set(0), y);
  return v_if_less(v_set(PIO_EXP_HIGH), x, v_set(INFINITY), y);
}

// The same of x <= 0, but about 2^-126 where it is less.
INLINE vf v_exp_below(vf x) {
  return v_exp_bounded(v_max(v_set(PIO_EXP_LOW), x));
}

#endif
