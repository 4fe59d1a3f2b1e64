package demo;

import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class SumTest {
    @Test
    public void numbersAreAdded() {
        assertEquals(6, Sum.of(1, 2, 3));
        assertEquals(0, Sum.of());
    }
}
