"""What predictions of test clips show: intervals, verdicts on pairs, controls, champion, calibration.

Pure functions on arrays. `right` is always whether each prediction is right, shape (replicates, clips); with folds, a
row joins the replicates of one seed. `groups` names the group of each clip: clips of a group are alike, groups are
independent; None: each clip is a group of its own.
"""
