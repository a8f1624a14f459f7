"""Datasets: readers, `loading.load_dataset` over all of them, preprocessing, sampling, and makers of data."""
