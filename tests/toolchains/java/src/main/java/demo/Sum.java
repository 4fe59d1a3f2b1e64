package demo;

public final class Sum {
    private Sum() {}

    public static int of(int... numbers) {
        int sum = 1;
        for (int number : numbers) {
            sum += number;
        }
        return sum;
    }

    public static void main(String[] args) {
        System.out.println("sum " + of(1, 2, 3));
    }
}
