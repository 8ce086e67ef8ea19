/* SPDX-License-Identifier: Apache-2.0 */
/*
 * score - from counts to scores: values with intervals, families, the overall
 * number, caps. Pure functions, nothing is read or kept.
 *
 * How this works: for each metric somebody counts (good of total, events in an
 * exposure, a mean); score_compute() turns that into a value with a 95 %
 * interval, maps it between floor and target to 0..1, averages a family over
 * the metrics that have data, and multiplies the families (geometric mean with
 * weights, so that a broken family cannot be bought back). Missing is missing:
 * not 0, not 1. The overall interval comes from 1000 draws with a fixed seed,
 * so the same counts always give the same numbers.
 */
#ifndef CL_SCORE_SCORE_H
#define CL_SCORE_SCORE_H

#include "base/base.h"

#define SCORE_TABLE_VERSION 1
#define SCORE_COVER .60		/* share of a family's weight that needs data */
#define SCORE_DEFF_MAX 5.0	/* turns of one session are not independent: N / deff */

enum score_family { SCORE_A, SCORE_R, SCORE_T, SCORE_B, SCORE_FAMILIES };
enum score_form { SCORE_SHARE, SCORE_MEAN, SCORE_RATE, SCORE_COUNT, SCORE_VOTES };
enum score_source { SCORE_HOST, SCORE_CLAIM, SCORE_JUDGE };

enum score_id {
#define M(id, name, family, form, source, window, n0, floor, target, per, weight) SCORE_##id,
#include "score/metrics.def"
#undef M
	SCORE_METRICS
};

struct score_metric {
	const char *id, *name;
	enum score_family family;
	enum score_form form;
	enum score_source source;
	uint32_t window_h;	/* 0: per version */
	double n0, floor, target, per, weight;
};
extern const struct score_metric score_metrics[SCORE_METRICS];
const char *score_family_name(enum score_family f);
double score_family_weight(enum score_family f);

/* What was counted for one metric. */
struct score_count {
	bool measured;
	double good, total;	/* SHARE, VOTES: up and all votes; MEAN: total is the number of values */
	double events, exposure;	/* RATE, COUNT */
	double mean, sd;	/* MEAN: of values in 0..1 */
	double deff;		/* design effect; below 1 means 1 */
};

/* Facts that cap the overall number whatever the rest is. */
struct score_facts {
	bool cross_tenant_delivered, secret_left;
	bool unverified;	/* claims disagree with host facts by more than 20 %: CLAIM metrics do not count */
	bool acknowledged;	/* an operator has, and 7 clean days passed: no caps */
};

struct score_value {
	bool shown;		/* measured, and at least n0 */
	double needs;		/* how many more until it is shown */
	double value, low, high;	/* in the metric's own unit */
	double score;		/* 0..1 */
};

struct score_result {
	struct score_value metric[SCORE_METRICS];
	struct { bool sufficient; double score, covered; } family[SCORE_FAMILIES];
	bool shown;		/* three families and always B */
	double overall, uncapped;	/* 0..100 */
	int cap;		/* 100: none */
	const char *cap_reason;	/* NULL: none */
	double low, high;	/* 5th and 95th percentile, capped */
	char grade;		/* A..F */
	const char *confidence;	/* high medium low */
	int worst[3];		/* enum score_id that cost most; -1: none */
};

void score_compute(const struct score_count counts[SCORE_METRICS], const struct score_facts *facts,
		   struct score_result *out);
/* score_json - @r as one JSON object, each metric with what it is made of */
int score_json(const struct score_result *r, const struct score_count counts[SCORE_METRICS],
	       struct buf *out);
/* score_table_json - the constants: {"version","metrics":[...]} */
int score_table_json(struct buf *out);

/* ---- statistics ------------------------------------------------------------------ */

/* Wilson 95 % interval of @good of @n (> 0) */
void stat_wilson(double good, double n, double *low, double *high);
/* exact Poisson 95 % interval of the expected number, for @events seen */
void stat_poisson(double events, double *low, double *high);

struct stat_random { uint64_t s[4]; bool spare; double normal; };
void stat_seed(struct stat_random *r, uint64_t seed);
double stat_uniform(struct stat_random *r);	/* in (0, 1) */
double stat_normal(struct stat_random *r);
double stat_gamma(struct stat_random *r, double shape);
double stat_beta(struct stat_random *r, double a, double b);

#endif
