import iniconfig  # comes with pytest: from the wheels, not from the system

from slug import slug


def test_words_are_joined_by_dashes():
    assert slug("Two Words") == "two-words"
    assert "site-packages" in iniconfig.__file__
