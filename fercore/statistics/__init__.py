"""What a study's accuracies can and cannot tell: plain functions over NumPy arrays.

``paired`` has the tests of two networks on the same images, ``bootstrap`` the intervals, ``memory``
the measures of forgetting and transfer, ``levels`` what an accuracy is to be held against.
"""
