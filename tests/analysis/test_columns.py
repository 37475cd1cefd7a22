"""The columns of every table, frozen: what reads them elsewhere breaks if one changes."""

from creditlab.analysis.catalogue import statistics

COMPARED = "dataset layer items n_items measure distance factor"
PAIR = (
    "level_a level_b mean_a mean_b difference ci_low ci_high estimate error t df p p_adjusted found level seeds scale"
)
COLUMNS = {
    "what_how": "of term n_metrics n_found median_omega_sq lowest highest highest_metric",
    "anova": "metric term F df df_error epsilon p p_adjusted found omega_sq omega_sq_low omega_sq_high partial_eta_sq "
    "generalised_eta_sq sum_sq error_sq n seeds scale model",
    "levels": "metric factor level n_runs mean ci_low ci_high sd lowest highest",
    "concordance": "dataset score raters n_raters n_items W chi2 df p mean_spearman ci_low ci_high noise_ceiling floor "
    "F df1 df2 p_F p_permutation",
    "seed_limit": "dataset score raters n_seeds within between difference ci_low ci_high upper t df p p_adjusted "
    "margin p_equivalent p_equivalent_adjusted verdict noise_ceiling ceiling_low ceiling_high",
    "concordance_differences": "raters dataset_a score_a dataset_b score_b n_seeds W_a W_b difference ci_low ci_high t "
    "df p p_adjusted",
    "concordance_pairs": "dataset score raters rater_a rater_b spearman",
    "similarity": f"{COMPARED} n_runs left_out within between difference ci_low ci_high p between_same_seed",
    "similarity_pairs": f"{COMPARED} a b n_pairs similarity ci_low ci_high",
    "fingerprint": "target held_out metrics n_metrics classifier n_runs n_identified accuracy chance shuffled p "
    "best_metric",
    "fingerprint_confusion": "target held_out metrics classifier fold true identified_as n_runs",
    "assumptions": "metric n normality_test normality p_normality smallest_cell spread spread_df1 spread_df2 p_spread "
    "fails",
    "divergence": "term level diverged n rate low high",
    "divergence_pairs": "factor level_a level_b n_pairs only_a only_b both p p_adjusted outcome n_seeds difference "
    "ci_low ci_high seeds_a seeds_b p_worst_rank least_p ahead",
    "posthoc": f"metric factor at {PAIR}",
    "equivalence": "metric factor level_a level_b n margin by difference low high t df p p_adjusted differs outcome",
    "same_geometry": "factor level_a level_b n_metrics n_equivalent p p_adjusted same not_equivalent",
    "multiplicity": "question metric p p_adjusted found level",
    "geometry": "metrics term n_metrics n_seeds df df_error F r_squared p least_p arrangements exact p_adjusted "
    "narrowest narrowest_distance widest widest_distance",
    "shares": "metric side term variance share low high",
    "matched": f"by target metric factor {PAIR}",
    "datasets": "metric factor level_a level_b n_datasets test statistic p_levels p_levels_adjusted rank_a rank_b p "
    "difference lowest highest",
    "association": "outcome metric scope n df r ci_low ci_high t p p_adjusted",
    "dose": "factor metric scale levels n slope slope_low slope_high t df p p_adjusted quadratic p_quadratic "
    "p_quadratic_adjusted tau change_after change_before ci_low ci_high change p_change p_change_adjusted",
    "curve": "factor metric level n mean low high",
    "power": "metric factor level_a level_b seeds scale sd sd_high smallest effect seeds_needed",
    "trajectories": "factor level metric step n mean low high",
    "rdms": "dataset layer factor level distance a b dissimilarity",
    "runs": "run identity status …",
}


def test_columns():
    assert {name: " ".join(statistic.columns) for name, statistic in statistics().items()} == COLUMNS


def test_tables_are_in_the_order_of_the_report():
    assert list(statistics()) == list(COLUMNS)
