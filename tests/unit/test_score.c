/* SPDX-License-Identifier: Apache-2.0 */
/* Scores: figures that can be looked up, and laws that must hold for any counts. */
#include "test.h"

#include "score/score.h"

#include <math.h>
#include <stdlib.h>

static struct score_count counts[SCORE_METRICS];
static struct score_result res;

static void assert_near(double got, double want, double within)
{
	if (!(fabs(got - want) <= within))
		print_error("got %.6f, want %.6f\n", got, want);
	assert_true(fabs(got - want) <= within);
}

/* Counts by which the metric scores @s, over @n of its unit. */
static struct score_count scoring(enum score_id id, double s, double n)
{
	const struct score_metric *m = &score_metrics[id];
	double x = m->floor + s * (m->target - m->floor);

	switch (m->form) {
	case SCORE_SHARE:
		return (struct score_count){ .measured = true, .good = x * n, .total = n };
	case SCORE_VOTES:
		return (struct score_count){ .measured = true, .good = x * (n + 2) - 1, .total = n };
	case SCORE_MEAN:
		return (struct score_count){ .measured = true, .mean = x, .sd = .2, .total = n };
	case SCORE_RATE:
		return (struct score_count){ .measured = true, .events = x * n / m->per, .exposure = n };
	case SCORE_COUNT:
	default:
		return (struct score_count){ .measured = true, .events = x };
	}
}

/* every metric of each family at the family's score; B11's low bound never is 1 */
static void all(double a, double r, double t, double b, double n)
{
	const double s[SCORE_FAMILIES] = { a, r, t, b };

	for (int i = 0; i < SCORE_METRICS; i++)
		counts[i] = i == SCORE_B11 ? (struct score_count){ .measured = false } :
			    scoring((enum score_id)i, s[score_metrics[i].family], n);
}

static void the_table_has_the_fifty_two_metrics_with_sound_constants(void **state)
{
	int in[SCORE_FAMILIES] = { 0 };
	double weight = 0;

	(void)state;
	assert_int_equal(SCORE_METRICS, 52);
	for (int i = 0; i < SCORE_METRICS; i++) {
		const struct score_metric *m = &score_metrics[i];

		in[m->family]++;
		assert_true(m->floor != m->target && m->per >= 1 && m->weight >= 0);
		assert_int_equal(m->id[0], "ARTB"[m->family]);
		if (m->family == SCORE_B)
			assert_int_equal(m->source, SCORE_HOST);	/* cannot be talked up */
		for (int k = 0; k < i; k++)
			assert_string_not_equal(m->id, score_metrics[k].id);
	}
	assert_int_equal(in[SCORE_A], 14);
	assert_int_equal(in[SCORE_R], 14);
	assert_int_equal(in[SCORE_T], 10);
	assert_int_equal(in[SCORE_B], 14);
	for (int f = 0; f < SCORE_FAMILIES; f++)
		weight += score_family_weight((enum score_family)f);
	assert_near(weight, 1, 1e-12);
}

static void wilson_intervals_are_the_known_ones(void **state)
{
	static const double rows[][4] = { { 20, 20, .839, 1 }, { 45, 50, .786, .957 }, { 450, 500, .871, .923 },
					  { 0, 10, 0, .278 } };
	double low, high;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++) {
		stat_wilson(rows[i][0], rows[i][1], &low, &high);
		assert_near(low, rows[i][2], .0006);
		assert_near(high, rows[i][3], .0006);
	}
}

static void poisson_intervals_are_the_exact_ones(void **state)
{
	/* Garwood's table */
	static const double rows[][3] = { { 0, 0, 3.6889 }, { 1, .0253, 5.5716 }, { 2, .2422, 7.2247 },
					  { 5, 1.6235, 11.6683 }, { 10, 4.7954, 18.3904 }, { 100, 81.364, 121.627 } };
	double low, high, low2, high2;

	(void)state;
	for (size_t i = 0; i < CL_ARRAY_LEN(rows); i++) {
		stat_poisson(rows[i][0], &low, &high);
		assert_near(low, rows[i][1], .001 + rows[i][0] * 1e-4);
		assert_near(high, rows[i][2], .001 + rows[i][0] * 1e-4);
	}
	stat_poisson(10000, &low, &high);	/* where the approximation takes over */
	stat_poisson(10001, &low2, &high2);
	assert_near(low2 - low, 1, .1);
	assert_near(high2 - high, 1, .1);
}

static void the_worked_example_comes_out(void **state)
{
	(void)state;
	all(.9, .8, .95, 1, 1e6);
	score_compute(counts, NULL, &res);
	assert_true(res.shown);
	assert_near(res.family[SCORE_A].score, .9, 1e-6);
	assert_near(res.family[SCORE_R].score, .8, 1e-6);
	assert_near(res.family[SCORE_T].score, .95, 1e-6);
	assert_near(res.family[SCORE_B].score, 1, 1e-6);
	assert_near(res.overall, 89.86, .01);
	assert_int_equal(res.grade, 'B');
	assert_string_equal(res.confidence, "high");
	assert_int_equal(res.cap, 100);
}

static void below_its_least_number_a_metric_is_missing_and_says_what_it_needs(void **state)
{
	(void)state;
	all(1, 1, 1, 1, 1000);
	counts[SCORE_A01] = (struct score_count){ .measured = true, .good = 8, .total = 8 };
	score_compute(counts, NULL, &res);
	assert_false(res.metric[SCORE_A01].shown);
	assert_near(res.metric[SCORE_A01].needs, 12, 1e-9);
	/* 13 of 14 have data: neither 0 nor 1 stands in */
	assert_near(res.family[SCORE_A].score, 1, 1e-9);
	assert_near(res.family[SCORE_A].covered, 13.0 / 14, 1e-9);
}

static void a_family_without_enough_data_is_left_out_and_without_b_nothing_is_shown(void **state)
{
	(void)state;
	all(.5, 1, 1, 1, 1000);
	for (int i = SCORE_A01; i <= SCORE_A06; i++)	/* 8 of 14 stay: below 60 % */
		counts[i].measured = false;
	score_compute(counts, NULL, &res);
	assert_false(res.family[SCORE_A].sufficient);
	assert_true(res.shown);
	assert_near(res.overall, 100, 1e-6);
	for (int i = SCORE_B01; i <= SCORE_B10; i++)
		counts[i].measured = false;
	score_compute(counts, NULL, &res);
	assert_false(res.shown);
}

static void gates_cap_the_number_and_the_uncapped_one_stays_visible(void **state)
{
	struct score_facts facts = { .secret_left = true };

	(void)state;
	all(1, 1, 1, 1, 1e6);
	counts[SCORE_B03].events = 1;
	score_compute(counts, NULL, &res);
	assert_int_equal(res.cap, 60);
	assert_near(res.overall, 60, 1e-9);
	assert_true(res.uncapped > 90 && res.high <= 60);
	counts[SCORE_B13].good -= 1;
	score_compute(counts, NULL, &res);
	assert_int_equal(res.cap, 40);
	counts[SCORE_B04].events = 1;
	score_compute(counts, NULL, &res);
	assert_int_equal(res.cap, 20);
	all(1, 1, 1, 1, 1e6);
	score_compute(counts, &facts, &res);
	assert_int_equal(res.cap, 20);
	assert_string_equal(res.cap_reason, "a secret left");
	facts.acknowledged = true;
	score_compute(counts, &facts, &res);
	assert_int_equal(res.cap, 100);
}

static void a_broken_family_cannot_be_bought_back(void **state)
{
	(void)state;
	all(1, 1, 1, 0, 1e6);
	counts[SCORE_B03].events = counts[SCORE_B04].events = 0;	/* no caps: the product alone */
	counts[SCORE_B13] = (struct score_count){ .measured = true, .good = 1000, .total = 1000 };
	score_compute(counts, NULL, &res);
	assert_true(res.overall < 65);
}

static void more_faults_never_raise_the_score(void **state)
{
	(void)state;
	for (int i = 0; i < SCORE_METRICS; i++) {
		double before = INFINITY;

		for (double bad = 0; bad <= 100; bad += 20) {
			all(.7, .7, .7, .7, 1000);
			struct score_count *c = &counts[i];

			c->measured = true;
			c->total = 100;
			c->good = 100 - bad;
			c->mean = 1 - bad / 100;
			c->exposure = 1000;
			c->events = bad;
			score_compute(counts, NULL, &res);
			assert_true(res.uncapped <= before + 1e-9);
			before = res.uncapped;
		}
	}
}

static void twice_the_data_says_the_same_with_narrower_intervals(void **state)
{
	struct score_result twice;

	(void)state;
	all(.6, .7, .8, .9, 10000);
	score_compute(counts, NULL, &res);
	for (int i = 0; i < SCORE_METRICS; i++) {
		if (score_metrics[i].form == SCORE_COUNT || score_metrics[i].form == SCORE_VOTES)
			continue;
		counts[i].good *= 2;
		counts[i].total *= 2;
		counts[i].events *= 2;
		counts[i].exposure *= 2;
	}
	score_compute(counts, NULL, &twice);
	assert_near(twice.overall, res.overall, 1e-6);
	for (int i = 0; i < SCORE_METRICS; i++) {
		const struct score_value *a = &res.metric[i], *b = &twice.metric[i];

		if (!a->shown || a->high - a->low < 1e-9 || score_metrics[i].form == SCORE_VOTES)
			continue;
		assert_near(b->value, a->value, 1e-9);
		/* few events in an exact Poisson interval shrink a little otherwise */
		double near = score_metrics[i].form == SCORE_RATE ? .35 : .05;

		assert_near((a->high - a->low) / (b->high - b->low), sqrt(2), near);
	}
}

static void claims_that_are_not_verified_leave_the_score(void **state)
{
	const struct score_facts facts = { .unverified = true };

	(void)state;
	all(1, 1, .2, 1, 1e6);
	score_compute(counts, NULL, &res);
	assert_true(res.family[SCORE_T].sufficient);
	score_compute(counts, &facts, &res);
	assert_false(res.family[SCORE_T].sufficient);	/* nearly all of T is claimed */
	assert_true(res.metric[SCORE_T01].shown);	/* but still shown */
}

static void the_three_that_cost_most_are_named(void **state)
{
	(void)state;
	all(1, 1, 1, 1, 1e6);
	counts[SCORE_R01] = scoring(SCORE_R01, 0, 1e6);
	counts[SCORE_B09] = scoring(SCORE_B09, .5, 1e6);
	counts[SCORE_T02] = scoring(SCORE_T02, .9, 1e6);
	counts[SCORE_R14] = scoring(SCORE_R14, 0, 1e6);		/* weight 0 */
	score_compute(counts, NULL, &res);
	assert_int_equal(res.worst[0], SCORE_R01);
	assert_int_equal(res.worst[1], SCORE_B09);
	assert_int_equal(res.worst[2], SCORE_T02);
}

static void wilson_intervals_cover_what_they_promise(void **state)
{
	static const double truth[] = { .5, .8, .9, .95 };
	struct stat_random r;

	(void)state;
	stat_seed(&r, 1);
	for (size_t k = 0; k < CL_ARRAY_LEN(truth); k++) {
		int covered = 0;

		for (int agent = 0; agent < 2000; agent++) {
			double good = 0, low, high;

			for (int i = 0; i < 200; i++)
				good += stat_uniform(&r) < truth[k];
			stat_wilson(good, 200, &low, &high);
			covered += low <= truth[k] && truth[k] <= high;
		}
		assert_true(covered >= 1860 && covered <= 1940);
	}
}

static void draws_have_the_moments_of_their_distributions_and_repeat(void **state)
{
	struct stat_random r, again;
	double n = 0, n2 = 0, g = 0, g2 = 0, b = 0, small = 0;

	(void)state;
	stat_seed(&r, 7);
	for (int i = 0; i < 100000; i++) {
		double x = stat_normal(&r), y = stat_gamma(&r, 3);

		n += x;
		n2 += x * x;
		g += y;
		g2 += y * y;
		b += stat_beta(&r, 8, 2);
		small += stat_gamma(&r, .5);
	}
	assert_near(n / 1e5, 0, .015);
	assert_near(n2 / 1e5, 1, .02);
	assert_near(g / 1e5, 3, .03);
	assert_near(g2 / 1e5 - 9, 3, .2);
	assert_near(b / 1e5, .8, .005);
	assert_near(small / 1e5, .5, .01);
	stat_seed(&r, 9);
	stat_seed(&again, 9);
	for (int i = 0; i < 1000; i++)
		assert_true(stat_gamma(&r, 2.5) == stat_gamma(&again, 2.5));
}

static void json_is_whole_for_full_and_for_empty_counts(void **state)
{
	CL_BUF struct buf b;

	(void)state;
	buf_init(&b, 1u << 20);
	assert_int_equal(score_table_json(&b), 0);
	assert_non_null(memmem(b.p, b.n, "\"B13\"", 5));
	all(.9, .8, .95, 1, 1e4);
	score_compute(counts, NULL, &res);
	buf_clear(&b);
	assert_int_equal(score_json(&res, counts, &b), 0);
	assert_non_null(memmem(b.p, b.n, "\"good\":", 7));
	memset(counts, 0, sizeof counts);
	score_compute(counts, NULL, &res);
	assert_false(res.shown);
	buf_clear(&b);
	assert_int_equal(score_json(&res, counts, &b), 0);
	assert_null(memmem(b.p, b.n, "nan", 3));
	assert_non_null(memmem(b.p, b.n, "\"needs\":20", 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_has_the_fifty_two_metrics_with_sound_constants),
		cmocka_unit_test(wilson_intervals_are_the_known_ones),
		cmocka_unit_test(poisson_intervals_are_the_exact_ones),
		cmocka_unit_test(the_worked_example_comes_out),
		cmocka_unit_test(below_its_least_number_a_metric_is_missing_and_says_what_it_needs),
		cmocka_unit_test(a_family_without_enough_data_is_left_out_and_without_b_nothing_is_shown),
		cmocka_unit_test(gates_cap_the_number_and_the_uncapped_one_stays_visible),
		cmocka_unit_test(a_broken_family_cannot_be_bought_back),
		cmocka_unit_test(more_faults_never_raise_the_score),
		cmocka_unit_test(twice_the_data_says_the_same_with_narrower_intervals),
		cmocka_unit_test(claims_that_are_not_verified_leave_the_score),
		cmocka_unit_test(the_three_that_cost_most_are_named),
		cmocka_unit_test(wilson_intervals_cover_what_they_promise),
		cmocka_unit_test(draws_have_the_moments_of_their_distributions_and_repeat),
		cmocka_unit_test(json_is_whole_for_full_and_for_empty_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
