"""Encoders in closed form: against scikit-learn, and on simulated species that they have not seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from kinmer import Clr, Encoder, FitSettings, benchmark, evaluate_retrieval, fit
from kinmer.cli import run
from kinmer.errors import TrainingError, UsageError
from kinmer.fragments.packed import KINDS, PackedSequences
from kinmer.layout import kmer_layout, profile_layout
from kinmer.linear import Projection
from kinmer.simulate import Community, write_community
from kinmer.training.directions import (
    Sample,
    apart,
    column_weights,
    fit_discriminant,
    fit_principal,
    genome_weights,
)

LAYOUT = kmer_layout(3)


def _fragments(
    classes: int = 6, each: int = 40, seed: int = 0
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Counts of classes that differ in composition, more in some columns than in others."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(classes), each)
    logits = rng.normal(size=(classes, LAYOUT.width))
    noise = rng.normal(size=(len(groups), LAYOUT.width)) * rng.uniform(0.1, 1.5, LAYOUT.width)
    return rng.poisson(np.exp(3 + logits[groups] + noise)).astype(np.uint32), groups


def _blocks(
    counts: NDArray[Any], groups: NDArray[np.int64]
) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    for start in range(0, len(counts), 37):
        yield counts[start : start + 37], groups[start : start + 37]


def test_principal_components_are_those_of_scikit_learn() -> None:
    counts, groups = _fragments()
    found = fit_principal(Sample(_blocks(counts, groups), LAYOUT, Clr()), 5)
    x = np.asarray(Clr()(counts, LAYOUT), np.float64)
    theirs = PCA(5, svd_solver="full").fit(x)
    np.testing.assert_allclose(found.mean, theirs.mean_, atol=1e-5)
    cosines = np.abs((found.weight * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)


def test_discriminant_distances_are_those_of_scikit_learn() -> None:
    counts, groups = _fragments()
    # All directions, whole whitening, no ridge to speak of: then it is Fisher's solution.
    sample = Sample(_blocks(counts, groups), LAYOUT, Clr())
    found = fit_discriminant(sample, 5, power=1.0, ridge=1e-9)
    x = np.asarray(Clr()(counts, LAYOUT), np.float64)
    # The CLR leaves one direction a block without variance; scikit-learn's SVD solver drops those.
    theirs = LinearDiscriminantAnalysis(solver="svd", n_components=5).fit(x, groups).transform(x)
    ours = (x - found.mean) @ found.weight.T
    ratio = pdist(ours) / pdist(theirs)
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=5e-3)


def test_whitening_brings_classes_together() -> None:
    counts, groups = _fragments()
    x = np.asarray(Clr()(counts, LAYOUT), np.float64)

    def spread(vectors: NDArray[np.float64]) -> float:
        """Variance within classes as a share of all."""
        centres = np.stack([vectors[groups == one].mean(axis=0) for one in range(6)])
        return float(((vectors - centres[groups]) ** 2).sum() / ((vectors - vectors.mean(axis=0)) ** 2).sum())

    def mapped(power: float) -> float:
        found = fit_discriminant(Sample(_blocks(counts, groups), LAYOUT, Clr()), 5, power=power)
        return spread((x - found.mean) @ found.weight.T)

    assert mapped(1.0) < mapped(0.5) < mapped(0.0) < spread(x)


def test_factors_of_columns_end_in_the_map() -> None:
    counts, groups = _fragments()
    factors = np.random.default_rng(1).uniform(0.5, 3, LAYOUT.width).astype(np.float32)
    plain = Sample(_blocks(counts, groups), LAYOUT, Clr())
    scaled = Sample(_blocks(counts, groups), LAYOUT, Clr(), columns=factors)
    x = np.asarray(Clr()(counts, LAYOUT), np.float64)
    theirs = PCA(4, svd_solver="full").fit(x * factors)
    found = fit_principal(scaled, 4)
    ours = (x - found.mean) @ found.weight.T
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs.transform(x * factors)), atol=2e-3)
    assert not np.allclose(
        np.abs(ours), np.abs((x - found.mean) @ fit_principal(plain, 4).weight.T), atol=1e-2
    )


def test_weights_of_groups_count_as_copies_would() -> None:
    counts, groups = _fragments(classes=3)
    twice = np.concatenate([np.arange(len(groups)), np.flatnonzero(groups == 1)])
    copied = Sample(_blocks(counts[twice], groups[twice]), LAYOUT, Clr())
    weighed = Sample(_blocks(counts, groups), LAYOUT, Clr(), group_weight=np.array([1.0, 2.0, 1.0]))
    np.testing.assert_allclose(copied.mean(), weighed.mean(), atol=1e-5)
    np.testing.assert_allclose(copied.scatter(copied.mean()), weighed.scatter(weighed.mean()), atol=1e-5)


def test_sequences_without_frames_lie_at_the_mean_of_those_blocks() -> None:
    layout = profile_layout(2, coding=True)
    rng = np.random.default_rng(0)
    counts = rng.poisson(5, (60, layout.width)).astype(np.uint32)
    start = layout.kmer_blocks[-1].stop
    counts[::3, start:] = 0
    sample = Sample(
        iter([(counts, np.arange(60) // 20)]), layout, Clr(), columns=column_weights(layout, codon=1, phase=1)
    )
    x = np.asarray(Clr()(counts, layout), np.float32)
    with_frames = np.arange(60) % 3 != 0
    np.testing.assert_allclose(sample.mean()[start:], x[with_frames, start:].mean(axis=0), atol=1e-5)
    network = Projection(width=layout.width, dim=4, optional=sample.spans)
    network.load({"mean": sample.mean(), "weight": rng.normal(size=(4, layout.width))})
    imputed = x.copy()
    imputed[~with_frames, start:] = sample.mean()[start:]
    wanted = (imputed - sample.mean()) @ network.weight.T
    np.testing.assert_allclose(network.embed(x), wanted, atol=1e-3)


def test_the_anchor_is_one_more_coordinate() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    weights = {"mean": np.zeros(6), "weight": rng.normal(size=(3, 6))}
    plain = Projection(width=6, dim=3).load(weights).embed(x)
    anchored = Projection(width=6, dim=4, anchor=2.5).load(weights).embed(x)
    np.testing.assert_array_equal(anchored, np.concatenate([plain, np.full((4, 1), 2.5)], axis=1))
    # A large one makes cosine rank as Euclidean distance does.
    far = Projection(width=6, dim=4, anchor=1e3).load(weights).embed(x).astype(np.float64)
    assert np.array_equal(np.argsort(pdist(far, "cosine")), np.argsort(pdist(plain)))
    assert not np.array_equal(np.argsort(pdist(plain, "cosine")), np.argsort(pdist(plain)))
    with pytest.raises(UsageError):
        Projection(width=6, dim=1, anchor=1.0)


def test_the_anchor_is_as_long_as_genomes_vectors() -> None:
    counts, groups = _fragments()
    found = fit_discriminant(Sample(_blocks(counts, groups), LAYOUT, Clr()), 5)
    x = np.asarray(Clr()(counts, LAYOUT), np.float64)
    vectors = (x - found.mean) @ found.weight.T
    centres = [np.linalg.norm(vectors[groups == one].mean(axis=0)) for one in range(6)]
    assert found.length == pytest.approx(float(np.median(centres)), rel=1e-3)


def test_steps_to_nearest_groups_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(4)
    points, weight, kin = rng.normal(size=(12, 3)), rng.uniform(0.5, 2, 12), np.arange(12) // 2
    wanted = []
    for i in range(12):
        others = sorted((j for j in range(12) if kin[j] != kin[i]), key=lambda j: _far(points, i, j))
        wanted += [(points[j] - points[i]) / _far(points, i, j) * weight[i] ** 0.5 for j in others[:4]]
    np.testing.assert_allclose(apart(points, weight, kin, 4), wanted, atol=1e-12)
    # Fewer that are no kin than were asked for.
    assert apart(points[:4], weight[:4], kin[:4], 5).shape == (8, 3)


def _far(points: NDArray[np.float64], i: int, j: int) -> float:
    return float(np.linalg.norm(points[i] - points[j]))


def test_neighbors_decide_which_direction_comes_first() -> None:
    """Two far families of groups: what parts them is the first direction only where all are told apart."""
    rng = np.random.default_rng(5)
    logits = np.zeros((8, LAYOUT.width))
    logits[:4, 0] = 4
    logits[:, 1] = np.tile([-1, -0.3, 0.3, 1], 2)
    groups = np.repeat(np.arange(8), 60)
    counts = rng.poisson(np.exp(4 + logits[groups])).astype(np.uint32)
    first = {}
    for neighbors in (0, 2):
        sample = Sample(_blocks(counts, groups), LAYOUT, Clr())
        found = fit_discriminant(sample, 1, power=1, neighbors=neighbors)
        x = (np.asarray(Clr()(counts, LAYOUT), np.float64) - found.mean) @ found.weight[0]
        means = np.array([x[groups == one].mean() for one in range(8)])
        within = np.mean([means[:4].std(), means[4:].std()])
        first[neighbors] = abs(means[:4].mean() - means[4:].mean()) / within
    assert first[0] > 5 > first[2]


def test_too_little_to_fit_on_is_told() -> None:
    counts, groups = _fragments(classes=2, each=5)
    with pytest.raises(TrainingError, match="too few"):
        Sample(iter([(counts[:1], groups[:1])]), LAYOUT, Clr())
    with pytest.raises(TrainingError, match="10 fragments"):
        fit_discriminant(Sample(iter([(counts, groups)]), LAYOUT, Clr()), 2)


def test_classes_have_their_shares_of_the_weight() -> None:
    kind = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    shares = {"virus": 0.2, "plasmid": 0.15, "eukaryote": 0.05}
    weights = genome_weights(kind, shares, np.arange(8))
    np.testing.assert_allclose(weights, [0.2, 0.2, 0.2, 0.1, 0.1, 0.15, 0.025, 0.025])
    # Classes that are not named divide the rest by their genomes; those that are not there leave theirs.
    weights = genome_weights(kind, {"virus": 0.4}, np.arange(8))
    np.testing.assert_allclose(weights, [0.1, 0.1, 0.1, 0.2, 0.2, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(genome_weights(kind, shares, np.array([0, 5]))[[0, 5]], [0.8, 0.2])
    np.testing.assert_allclose(genome_weights(kind, shares, np.array([3, 4]))[[3, 4]], 0.5)
    np.testing.assert_allclose(genome_weights(kind, None, np.arange(8)), 1 / 8)


def test_a_genome_of_plasmids_alone_is_a_plasmid(tmp_path: Path) -> None:
    rows = [
        ("chromosome", "a", "Bacteria", "chromosome"),
        ("its-plasmid", "a", "Bacteria", "plasmid"),
        ("plasmid", "b", "Bacteria", "plasmid"),
        ("phage", "c", "Viruses", "virus"),
        ("mitochondrion", "d", "Eukaryota", "organelle"),
    ]
    labels = tmp_path / "labels.tsv"
    head = ("sequence_id", "genome_id", "domain", "molecule")
    labels.write_text("".join("\t".join(row) + "\n" for row in (head, *rows)))
    fasta = tmp_path / "all.fna"
    fasta.write_text("".join(f">{row[0]}\n{'ACGT' * 300}\n" for row in rows))
    groups = PackedSequences.read([fasta], labels).groups
    assert groups.names == ("a", "b", "c", "d")
    assert [KINDS[one] for one in groups.kind] == ["cell", "plasmid", "virus", "eukaryote"]
    assert groups.virus.tolist() == [False, False, True, False]


def test_wrong_shares_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ({"fungus": 0.1}, {"virus": -0.1}, {"virus": 0.7, "plasmid": 0.7}):
        with pytest.raises(UsageError):
            FitSettings(shares=wrong)
    assert run(["fit", "none.fna", "-o", str(tmp_path / "e"), "--share", "virus=much"]) != 0
    assert "--share" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"method": "lda"}, {"dim": 0}, {"neighbors": -1}, {"power": 1.5}, {"ridge": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        FitSettings(**wrong)


COMMUNITY = Community(
    phyla=2, families=2, genera=2, species=2, strains=2, chromosome=40_000, plasmid=6_000, phages=1, seed=3
)


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    write_community(folder / "all", community=COMMUNITY)
    labels = folder / "all/taxonomy.tsv"
    benchmark(_files(folder), folder / "bench", labels=labels, folds=3, lengths=(2_000,), piece=10_000)
    return folder


def _files(folder: Path) -> list[str | Path]:
    return [*sorted((folder / "all/genomes").iterdir())]


def _fit(folder: Path, name: str, **changes: Any) -> Encoder:
    settings = FitSettings(**{**_plain(), **changes})
    return fit(
        _files(folder), folder / name, settings=settings, labels=folder / "all/taxonomy.tsv", force=True
    )


def _plain() -> dict[str, Any]:
    return {"per_group": 24, "lengths": (1_000, 6_000), "dim": 16, "max_k": 4, "coding": False}


def test_discriminant_finds_more_of_unseen_species_than_components(community: Path) -> None:
    labels = community / "all/taxonomy.tsv"
    for method in ("pca", "discriminant"):
        for fold in range(3):
            settings = FitSettings(**{**_plain(), "method": method, "dim": 12})
            (community / method).mkdir(exist_ok=True)
            fit(
                _files(community),
                community / method / f"fold{fold}",
                settings=settings,
                labels=labels,
                folds=community / "bench/folds.tsv",
                fold=fold,
            )
    found = evaluate_retrieval(
        community / "bench",
        encoders={name: str(community / name / "fold{fold}") for name in ("pca", "discriminant")},
        bootstrap=0,
    )
    pca, discriminant = (
        found.score(name, "species", case="genome", length=2_000) for name in ("pca", "discriminant")
    )
    assert pca is not None
    assert pca.value is not None
    assert discriminant is not None
    assert discriminant.value is not None
    assert discriminant.value > pca.value


def test_an_encoder_of_noise_finds_no_more_than_raw_profiles(community: Path, tmp_path: Path) -> None:
    """Genomes of letters drawn evenly have nothing in common that could be learnt."""
    rng = np.random.default_rng(0)
    noise = tmp_path / "noise.fna"
    noise.write_text("".join(f">n{one}\n{''.join(rng.choice(list('ACGT'), 60_000))}\n" for one in range(24)))
    fit([noise], tmp_path / "noise", settings=FitSettings(**_plain()))
    fit(None, tmp_path / "raw", settings=FitSettings(method="raw", max_k=4, coding=False))
    _fit(community, "learnt")
    encoders = {"raw": tmp_path / "raw", "noise": tmp_path / "noise", "learnt": community / "learnt"}
    found = evaluate_retrieval(community / "bench", encoders=encoders, bootstrap=0)
    shares = {}
    for name in encoders:
        score = found.score(name, "species", case="genome", length=2_000)
        assert score is not None
        assert score.value is not None
        shares[name] = score.value
    # Of genomes that it has seen an encoder finds more.
    assert shares["noise"] <= shares["raw"] < shares["learnt"], shares


def test_a_fold_left_out_is_as_if_it_were_not_there(community: Path, tmp_path: Path) -> None:
    folds = pd.read_csv(community / "bench/folds.tsv", sep="\t", dtype=str)
    kept = set(folds[folds.fold != "1"].genome_id)
    labels = pd.read_csv(community / "all/taxonomy.tsv", sep="\t", dtype=str)
    files = [file for file in _files(community) if Path(file).name.split(".")[0] in kept]
    assert 0 < len(files) < len(_files(community))
    settings = FitSettings(**{**_plain(), "method": "pca"})
    one = fit(
        _files(community),
        tmp_path / "one",
        settings=settings,
        labels=community / "all/taxonomy.tsv",
        folds=community / "bench/folds.tsv",
        fold=1,
    )
    other = fit(files, tmp_path / "other", settings=settings, labels=community / "all/taxonomy.tsv")
    assert len(labels)
    assert one.fingerprint == other.fingerprint


def test_the_same_seed_gives_the_same_encoder(community: Path) -> None:
    one = _fit(community, "seeded")
    assert _fit(community, "seeded").fingerprint == one.fingerprint
    assert _fit(community, "seeded", seed=1).fingerprint != one.fingerprint


def test_raw_and_4_mers_are_the_profile_itself(community: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layout = kmer_layout()
    counts = rng.poisson(3, (5, layout.width)).astype(np.uint32)
    x = np.asarray(Clr()(counts, layout), np.float32)
    raw = fit(None, tmp_path / "raw", settings=FitSettings(method="raw", coding=False))
    np.testing.assert_allclose(raw.embed(counts), x, atol=1e-5)
    tetra = fit(None, tmp_path / "tetra", settings=FitSettings(method="4-mer"))
    np.testing.assert_allclose(tetra.embed(counts), x[:, 2592:2728], atol=1e-5)


def test_the_command_makes_an_encoder_and_tells_what_is_wrong(
    community: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(file) for file in _files(community)]
    labels = str(community / "all/taxonomy.tsv")
    argv = [
        "fit",
        *files,
        "--labels",
        labels,
        "-o",
        str(tmp_path / "enc"),
        "--dim",
        "8",
        "--per-group",
        "12",
        "--max-k",
        "3",
    ]
    assert run([*argv, "--length", "1000-4000"]) == 0
    encoder = Encoder.load(tmp_path / "enc")
    assert encoder.dim == 8
    assert encoder.layout.coding
    assert "fragments of one genome lie together" in (tmp_path / "enc/card.md").read_text()
    assert run(argv) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["fit", "-o", str(tmp_path / "none")]) == 2
    assert "is fitted on sequences" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_old_name_of_the_transforms_option_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("--original-clr", "--reference-clr"):
        assert run(["fit", "--method", "raw", name, "-o", str(tmp_path / name)]) == 0
    assert "warning: --reference-clr is an old name · write --original-clr" in capsys.readouterr().err
    old, new = (Encoder.load(tmp_path / name) for name in ("--reference-clr", "--original-clr"))
    assert old.fingerprint == new.fingerprint
    assert new.clr.scope == "joint"
