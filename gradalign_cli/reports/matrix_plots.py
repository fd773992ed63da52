"""The figures of a report that show accuracy and forgetting by task."""

import numpy as np

from gradalign_cli.reports import figures
from gradalign_cli.reports.group import Group
from gradalign_cli.reports.plot import MOST_PANELS, Plot, first_groups, note_on_shown_rows


def matrix_table_rows(matrices: dict[str, np.ndarray]) -> list[list[str]]:
    """A row for each row of each matrix [rows, T], in percent; empty where it is NaN."""
    return [
        [
            label,
            str(matrix.shape[1] - len(matrix) + 1 + i),
            ", ".join("" if np.isnan(value) else f"{100 * value:.1f}" for value in row),
        ]
        for label, matrix in matrices.items()
        for i, row in enumerate(matrix)
    ]


MATRIX_COLUMNS = ["setting", "after task", "task 1, 2, ... (%)"]


def accuracy_heat_maps(groups: dict[str, Group]) -> Plot:
    """The accuracy matrix of each group, as a mean over its seeds."""
    shown = first_groups(groups, MOST_PANELS)
    matrices = {label: group.accuracy().mean(0) for label, group in shown.items()}
    sentence = (
        "Row i is after task i, row 0 the untrained network; column j is the accuracy on task j, "
        "as a mean over seeds. A column that turns dark downwards is a task being forgotten. Above "
        "the diagonal a task has not been trained yet."
    )
    return Plot(
        "accuracy",
        "Accuracy on each task after each task",
        sentence + note_on_shown_rows(groups, MOST_PANELS),
        lambda width: figures.heat_maps(matrices, "accuracy", width),
        MATRIX_COLUMNS,
        matrix_table_rows(matrices),
    )


def forgetting_plot(groups: dict[str, Group]) -> Plot | None:
    """How far each task is below its best so far, as a mean over seeds."""
    matrices = {}
    for label, group in first_groups(groups, MOST_PANELS).items():
        accuracy = group.accuracy()  # [n, T + 1, T]
        if accuracy.shape[2] > 1:
            matrices[label] = forgetting_matrices(accuracy).mean(0)[1:]
    if not matrices:
        return None
    sentence = (
        "Row i, column j: the best accuracy on task j after an earlier task than i, minus that "
        "after task i, as a mean over seeds. Dark cells are forgotten tasks; below 0 counts as 0 "
        "in the colour."
    )
    return Plot(
        "forgetting",
        "Forgetting of each task after each task",
        sentence + note_on_shown_rows(groups, MOST_PANELS),
        lambda width: figures.heat_maps(matrices, "forgetting", width, dark_is_high=True),
        MATRIX_COLUMNS,
        matrix_table_rows(matrices),
    )


def forgetting_matrices(accuracy: np.ndarray) -> np.ndarray:
    """The forgetting matrices [n, T + 1, T] of accuracy matrices."""
    from gradalign_cli.results.metrics import forgetting_matrix

    return np.stack([forgetting_matrix(matrix) for matrix in accuracy])


def task_curves_plot(groups: dict[str, Group]) -> Plot:
    """The accuracy on each task over time."""
    matrices = {
        label: g.accuracy().mean(0) for label, g in first_groups(groups, MOST_PANELS).items()
    }
    return Plot(
        "tasks",
        "Each task's accuracy over time",
        "A line is a task, from the moment it was learned; means over seeds. Lines that fall are "
        "forgotten." + note_on_shown_rows(groups, MOST_PANELS),
        lambda width: figures.task_curves(matrices, width),
        MATRIX_COLUMNS,
        matrix_table_rows({label: matrix[1:] for label, matrix in matrices.items()}),
    )
