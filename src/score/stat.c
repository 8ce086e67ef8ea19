/* SPDX-License-Identifier: Apache-2.0 */
#include "score/score.h"

#include <math.h>

#define Z95 1.959963984540054

void stat_wilson(double good, double n, double *low, double *high)
{
	double p = good / n, z2 = Z95 * Z95, d = 1 + z2 / n;
	double mid = (p + z2 / (2 * n)) / d;
	double half = Z95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / d;

	*low = fmax(0, mid - half);
	*high = fmin(1, mid + half);
}

/* P(X <= k) of a Poisson variable, summed from the largest term downwards. */
static double poisson_cdf(double k, double mean)
{
	double sum = 0;

	if (mean <= 0)
		return 1;
	for (double i = floor(k); i >= 0; i--) {
		double term = exp(i * log(mean) - mean - lgamma(i + 1));

		sum += term;
		if (i < mean && term < sum * 1e-15)
			break;
	}
	return fmin(1, sum);
}

/* The mean at which P(X <= k) is @p: it falls with the mean. */
static double poisson_mean(double k, double p)
{
	double lo = 0, hi = k + 10 + 10 * sqrt(k + 1);

	for (int i = 0; i < 100; i++) {
		double mid = (lo + hi) / 2;

		if (poisson_cdf(k, mid) > p)
			lo = mid;
		else
			hi = mid;
	}
	return (lo + hi) / 2;
}

/* A chi-square quantile by Wilson and Hilferty; for large counts it is exact enough. */
static double large(double shape, double z)
{
	double a = 1 - 1 / (9 * shape) + z / (3 * sqrt(shape));

	return shape * a * a * a;
}

void stat_poisson(double events, double *low, double *high)
{
	if (events > 10000) {
		*low = large(events, -Z95);
		*high = large(events + 1, Z95);
		return;
	}
	*low = events < 1 ? 0 : poisson_mean(events - 1, .975);
	*high = poisson_mean(events, .025);
}

/* ---- random numbers: xoshiro256**, the same everywhere ------------------------------ */

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

void stat_seed(struct stat_random *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {		/* splitmix64 */
		uint64_t z = seed += 0x9e3779b97f4a7c15u;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		r->s[i] = z ^ z >> 31;
	}
	r->spare = false;
}

double stat_uniform(struct stat_random *r)
{
	uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return ((double)(out >> 12) + .5) / 4503599627370496.0;
}

double stat_normal(struct stat_random *r)
{
	if (r->spare) {
		r->spare = false;
		return r->normal;
	}
	double len = sqrt(-2 * log(stat_uniform(r))), at = 2 * M_PI * stat_uniform(r);

	r->spare = true;
	r->normal = len * sin(at);
	return len * cos(at);
}

/* Marsaglia and Tsang; scale 1 */
double stat_gamma(struct stat_random *r, double shape)
{
	if (shape < 1)
		return stat_gamma(r, shape + 1) * pow(stat_uniform(r), 1 / shape);

	double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

	for (;;) {
		double x = stat_normal(r), v = 1 + c * x;

		if (v <= 0)
			continue;
		v = v * v * v;
		if (log(stat_uniform(r)) < .5 * x * x + d - d * v + d * log(v))
			return d * v;
	}
}

double stat_beta(struct stat_random *r, double a, double b)
{
	double x = stat_gamma(r, a), y = stat_gamma(r, b);

	return x / (x + y);
}
